"""What the programs here share. A check that does not hold ends the program with a traceback."""
import http.client
import json
import time


def say(text):
    """What makes the model of tests/support/fake_worker.h answer with this text."""
    return f"Please. [say]{text}[/say]"


def call(name, **arguments):
    """A tool call as the tests' template has it."""
    return "<tool_call>" + json.dumps({"name": name, "arguments": arguments}) + "</tool_call>"


WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
}


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def health(port):
    return json.loads(get(port, "/health")[1])


def metric(port, name):
    for line in get(port, "/metrics")[1].splitlines():
        if line.startswith(name + " "):
            return float(line.split()[1])
    raise AssertionError(f"no metric {name}")


def outcome(port, name):
    return metric(port, f'worker_requests_total{{outcome="{name}"}}')


def await_true(what, condition, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError(f"{what}: not within {seconds} s")


def await_idle(port):
    await_true("idle", lambda: health(port)["jobs_active"] == 0)


def equal(expected, found):
    assert expected == found, f"expected {expected!r}, found {found!r}"


def raises(kind, status, do):
    try:
        do()
    except kind as e:
        equal(status, getattr(e, "status_code", status))
        return e
    raise AssertionError(f"no {kind.__name__}")
