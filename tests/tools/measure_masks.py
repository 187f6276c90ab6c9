"""What JSON schemas cost a worker's steps: 64 answers at once, held to schemas or free.

    build/worker-orcd serve -m FILE --port 8099 --max-jobs 64 &
    python3 tests/tools/measure_masks.py 8099 --schemas 100

Each run has 64 answers, of which one is streamed to here. What counts are the gaps between its tokens from the
10th on, when all others are under way: so neither reading schemas nor prompts is part of it. "one": all 64 have
the same schema, a new one in each run; "many": each has another one. Every schema has an array of objects that
outlasts the answer. The overhead of a run is its mean gap over the median of free runs'.
"""

import argparse
import http.client
import json
import threading
import time

ROWS = 64


def schema(number):
    text = {"type": "string"}
    values = [
        text,
        {**text, "minLength": number % 30},
        {**text, "maxLength": 20 + number},
        {"type": "number"},
        {"enum": ["a", f"b{number}"]},
        {**text, "format": "date"},
        {"type": "array", "items": text},
    ]
    names = range(1 + number % 6)
    members = {f"field{k}": values[(number + k * (number % 5 + 1)) % len(values)] for k in names}
    item = {"type": "object", "properties": members, "required": list(members)}
    return {"type": "array", "minItems": 1000, "items": item}


def post(port, key, temperature, n_tokens, held, streams):
    body = {"prompt": f"x{key}", "max_tokens": n_tokens, "temperature": temperature, "seed": key, "stream": streams}
    body.update({"ignore_eos": True} if held is None else {"json_schema": held})
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        raise SystemExit(response.read().decode())
    return connection, response


def gaps(port, temperature, n_tokens, schemas):
    """Seconds between the tokens of one of 64 answers, in order. The others are cut short when it has ended."""
    others = []

    def other(key):
        others.append(post(port, key, temperature, 3000, schemas[key], True))

    threads = [threading.Thread(target=other, args=(key,)) for key in range(ROWS - 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times = []
    for line in post(port, ROWS - 1, temperature, n_tokens, schemas[ROWS - 1], True)[1]:
        if line.startswith(b"data: {"):
            times.append(time.time())
    for connection, response in others:
        if b"[DONE]" in response.peek():
            raise SystemExit("an answer ended too early")
        response.close()
        connection.close()
    return [b - a for a, b in zip(times[9:], times[10:])]


def quantile(values, part):
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]


def mean(values):
    return sum(values) / len(values)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--schemas", type=int, default=100, help="runs of one schema; a fifth as many of many")
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--temperatures", type=float, nargs="+", default=[0, 0.8])
    options = parser.parse_args()
    for temperature in options.temperatures:
        free = [gaps(options.port, temperature, options.tokens, [None] * ROWS) for _ in range(9)]
        usual = quantile([mean(run) for run in free], 0.5)
        all_free = [gap for run in free for gap in run]
        print(f"temperature {temperature}: free: a step {usual * 1e6:.0f} us, 99th {quantile(all_free, 0.99) * 1e6:.0f}")
        for name, n_runs in (("one", options.schemas), ("many", options.schemas // 5)):
            runs = []
            for number in range(n_runs):
                numbers = [number] * ROWS if name == "one" else range(number, number + ROWS)
                runs.append(gaps(options.port, temperature, options.tokens, [schema(n) for n in numbers]))
            more = [100 * (mean(run) / usual - 1) for run in runs]
            all_held = [gap for run in runs for gap in run]
            print(
                f"  {name}: {n_runs} runs: overhead median {quantile(more, 0.5):+.1f}%, 90th {quantile(more, 0.9):+.1f}, "
                f"99th {quantile(more, 0.99):+.1f}; a step: median {quantile(all_held, 0.5) * 1e6:.0f} us, "
                f"99th {quantile(all_held, 0.99) * 1e6:.0f}",
                flush=True,
            )


main()
