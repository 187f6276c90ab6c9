"""What JSON schemas cost a worker's steps: 64 answers at once, held to schemas or free.

    build/worker-orcd serve -m FILE --port 8099 --max-jobs 64 &
    python3 tests/tools/measure_masks.py 8099 --schemas 100

Each run has 64 answers, of which one is streamed to here. What counts are the gaps between its tokens from the
10th on, when all others are under way: so neither reading schemas nor prompts is part of it. "one": all 64 have
the same schema, a new one in each run; "many": each has another one. Every schema has an array of objects that
outlasts the answer. The overhead of a run is its mean gap over the median of free runs', of which there is one
before each: so what free runs differ by among themselves is told beside it.
"""

import argparse
import http.client
import json
import threading
import time

ROWS = 64
WARM_SECONDS = 20


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


def warm_up(port, n_tokens):
    """The kernels of 64 rows are compiled behind the start; a run before that takes five times as long."""
    begin, least = time.time(), float("inf")
    while True:
        now = mean(gaps(port, 0.8, n_tokens, [None] * ROWS))
        if time.time() - begin > WARM_SECONDS and now < 1.02 * least:
            return
        least = min(least, now)


def quantile(values, part):
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]


def mean(values):
    return sum(values) / len(values)


def spread(overheads):
    at = [f"{100 * quantile(overheads, part):+.1f}" for part in (0.5, 0.9, 0.99)]
    return f"median {at[0]}%, 90th {at[1]}, 99th {at[2]}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--schemas", type=int, default=100, help="runs of one schema; a fifth as many of many")
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--temperatures", type=float, nargs="+", default=[0, 0.8])
    options = parser.parse_args()
    warm_up(options.port, options.tokens)
    for temperature in options.temperatures:
        for name, n_runs in (("one", options.schemas), ("many", options.schemas // 5)):
            free, held = [], []
            for number in range(n_runs):
                numbers = [number] * ROWS if name == "one" else range(number, number + ROWS)
                free.append(gaps(options.port, temperature, options.tokens, [None] * ROWS))
                held.append(gaps(options.port, temperature, options.tokens, [schema(n) for n in numbers]))
            usual = quantile([mean(run) for run in free], 0.5)
            more = [mean(run) / usual - 1 for run in held]
            worst = sorted(range(n_runs), key=lambda number: -more[number])[:8]
            steps = [f"{1e6 * quantile([gap for run in runs for gap in run], 0.5):.0f}" for runs in (free, held)]
            print(f"temperature {temperature}, {name}: {n_runs} runs, steps of {steps[1]} us, free {steps[0]}")
            print(f"  held {spread(more)}; of steps {spread_of_steps(held, usual)}")
            print(f"  free {spread([mean(run) / usual - 1 for run in free])}; of steps {spread_of_steps(free, usual)}")
            print("  worst:", ", ".join(f"{number} {100 * more[number]:+.1f}%" for number in worst), flush=True)


def spread_of_steps(runs, usual):
    return spread([gap / usual - 1 for run in runs for gap in run])


main()
