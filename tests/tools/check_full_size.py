#!/usr/bin/env python3
"""Load models of real size on a GPU, generate, compare runs with each other, measure, and print one table.

    check_full_size.py FOLDER [--models NAME,...] [--worker build/worker-orcd] [--device cuda] [--seconds 540] [--json OUT]

For each model: its file is made by make_model.py in FOLDER where it is not there yet (the largest is 12 GB: a folder
in memory is fastest), then
    M0-W-1800, 1823  it loads, says how much VRAM it uses, and generates 128 tokens
    M0-W-1826        the same tokens again, at temperature 0 and at 0.8 with a seed
    residency        /health of a serving worker says that all of it is in the GPU's memory
    first token      from exec to the first token's text, with an empty cache of kernels and with a filled one
    speed            `bench`: prompts of 512 and 2,048 tokens, generating at 128 and at 1,024 tokens of context
Figures with a requirement are compared with it. Every step has a time limit, and what is left of --seconds bounds
them all: what does not fit is in the table as not done. No network. Ends with status 1 where something failed.
"""
import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
N_TOKENS, SEED, PROMPT = 128, 7, "The quick brown fox jumps over the lazy dog, and then"

# Requirements: seconds from exec to the first token, and tokens a second.
REQUIRED = {
    "qwen2.5-0.5b": {"cold s": 1.5, "cached s": 0.6, "decode 128": 2600, "prompt 512": 78000, "prompt 2048": 111000},
    "phi3-mini": {"decode 128": 800, "prompt 512": 29000, "prompt 2048": 44000},
    "gpt-oss-20b": {"cached s": 2.2, "decode 128": 750, "prompt 512": 15000, "prompt 2048": 20000},
    "llama-3.1-8b": {"cached s": 1.2, "decode 128": 480, "prompt 512": 18400, "prompt 2048": 28800},
    "llama-3.2-1b": {"decode 128": 2000, "prompt 512": 62000, "prompt 2048": 111000},
}
DEFAULT = "qwen2.5-0.5b,phi3-mini,gpt-oss-20b,llama-3.1-8b"


class Clock:
    """What is left of the time for everything."""

    def __init__(self, seconds):
        self.end = time.monotonic() + seconds

    def limit(self, seconds):
        left = self.end - time.monotonic()
        if left < 3:
            raise TimeoutError("no time left")
        return min(seconds, left)


class Table:
    """Rows of (model, what, figure, required, verdict); printed at once and again at the end."""

    def __init__(self):
        self.rows = []

    def add(self, model, what, figure, ok=None, required=""):
        verdict = {None: "", True: "pass", False: "FAIL"}[ok]
        self.rows.append((model, what, figure, required, verdict))
        print("  ".join(str(v) for v in self.rows[-1] if v != ""), flush=True)

    def measured(self, model, what, value, unit, less_is_better=False):
        required = REQUIRED.get(model, {}).get(what)
        if required is None:
            self.add(model, what, f"{value:,.6g} {unit}")
            return
        ok = value <= required if less_is_better else value >= required
        self.add(model, what, f"{value:,.6g} {unit}", ok, f"{'at most' if less_is_better else 'at least'} {required:,}")

    def show(self):
        print()
        widths = [max(len(str(r[i])) for r in self.rows) for i in range(5)]
        for row in self.rows:
            print("  ".join(str(v).ljust(w) for v, w in zip(row, widths)).rstrip())
        failed = sum(r[4] == "FAIL" for r in self.rows)
        print(f"\n{sum(r[4] == 'pass' for r in self.rows)} passed, {failed} failed")
        return failed


def command(args, name, *more):
    return [args.worker, *more, "--model", path_of(args, name), "--device", args.device]


def path_of(args, name):
    return os.path.join(args.folder, name + ".gguf")


def make(args, clock, table, name):
    if os.path.exists(path_of(args, name)):
        return
    begin, part = time.monotonic(), path_of(args, name) + ".part"
    subprocess.run([sys.executable, os.path.join(HERE, "..", "make_model.py"), name, part, *args.make_options],
                   check=True, timeout=clock.limit(120), stdout=subprocess.DEVNULL)
    os.rename(part, path_of(args, name))
    table.add(name, "file made", f"{os.path.getsize(path_of(args, name)) / 1e9:.2f} GB in {time.monotonic() - begin:.1f} s")


def generate(args, clock, name, cache, temperature, n_tokens=N_TOKENS):
    """Token ids, seconds from exec to the first of them, and what went to standard error."""
    begin = time.monotonic()
    limit = clock.limit(120)
    run = subprocess.Popen([*command(args, name, "run"), "--ids", "--prompt", PROMPT, "--max-tokens", str(n_tokens),
                            "--temperature", str(temperature), "--seed", str(SEED), "--jit-cache", cache],
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           bufsize=0)  # communicate() does not see what a buffer has read ahead
    stop = signal.signal(signal.SIGALRM, lambda *_: run.kill())
    signal.alarm(int(limit) + 1)
    first = run.stdout.read(1)
    seconds = time.monotonic() - begin
    rest, errors = run.communicate()
    signal.alarm(0)
    signal.signal(signal.SIGALRM, stop)
    errors = errors.decode(errors="replace").strip()
    if run.returncode != 0:
        raise RuntimeError(f"run ended with status {run.returncode}: {errors.splitlines()[-1] if errors else ''}")
    return [int(v) for v in (first + rest).split()], seconds, errors


def describe_difference(a, b):
    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    return f"{len(a)} and {len(b)} tokens, different from number {at} on: {a[at:at + 3]} and {b[at:at + 3]}"


def check_tokens(args, clock, table, name, cache):
    first, cold, errors = generate(args, clock, name, cache, 0)
    table.measured(name, "cold s", round(cold, 3), "s to the first token", True)
    again, cached, _ = generate(args, clock, name, cache, 0)
    _, cached_again, _ = generate(args, clock, name, cache, 0, 1)
    table.measured(name, "cached s", round(min(cached, cached_again), 3), "s to the first token", True)
    table.add(name, "M0-W-1823 generates", f"{len(first)} tokens, {len(set(first))} different", len(first) == N_TOKENS,
              f"{N_TOKENS} tokens")
    same = first == again
    table.add(name, "M0-W-1826 temperature 0", "same tokens" if same else describe_difference(first, again), same)
    drawn = [generate(args, clock, name, cache, 0.8)[0] for _ in range(2)]
    same = drawn[0] == drawn[1] and len(drawn[0]) == N_TOKENS
    table.add(name, "M0-W-1826 temperature 0.8", "same tokens" if same else describe_difference(*drawn), same)
    for line in errors.splitlines():
        if re.search("loaded|VRAM", line):
            table.add(name, "run says", line.strip())


def ask(url, clock):
    with urllib.request.urlopen(url, timeout=clock.limit(10)) as answer:
        return json.load(answer)


def check_health(args, clock, table, name, cache):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with tempfile.TemporaryFile() as log:
        worker = subprocess.Popen([*command(args, name), "--port", str(port), "--jit-cache", cache, "--log-format", "json"],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)
        try:
            end = time.monotonic() + clock.limit(60)
            health = {}
            while health.get("status") != "healthy" and time.monotonic() < end and worker.poll() is None:
                time.sleep(0.1)
                try:
                    health = ask(f"http://127.0.0.1:{port}/health", clock)
                except OSError:
                    pass  # it does not listen yet, or answers 503
            resident = health.get("resident") is True
            if args.device == "cuda":
                table.add(name, "residency", f"resident: {health.get('resident')}", resident, "true")
            used, total = health.get("vram_bytes_used", 0), health.get("vram_bytes_total", 0)
            table.add(name, "M0-W-1800 VRAM", f"{used / 1e9:.3f} of {total / 1e9:.1f} GB, sm {health.get('sm')}, "
                      f"{health.get('quant_kind')}", health.get("status") == "healthy")
        finally:
            worker.terminate()
            try:
                status = worker.wait(timeout=30)
            except subprocess.TimeoutExpired:
                worker.kill()
                status = "none: killed"
            table.add(name, "ends", f"status {status}", status == 0)


def check_speed(args, clock, table, name, cache):
    done = subprocess.run([*command(args, name, "bench"), "--json", "--jit-cache", cache, "--runs", str(args.runs),
                           "--prompt-tokens", args.prompt_tokens, "--context", args.context, "--output-tokens", "64"],
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=clock.limit(180))
    if done.returncode != 0:
        raise RuntimeError(f"bench ended with status {done.returncode}: {done.stderr.decode(errors='replace').strip()}")
    for r in json.loads(done.stdout)["results"]:
        what = f"{'prompt' if r['test'] == 'prompt' else 'decode'} {r['tokens']}"
        table.measured(name, what, round(r["tokens_per_second"], 1), f"tokens/s ({r['least']:,.0f} to {r['most']:,.0f})")


def check_model(args, clock, table, name):
    try:
        make(args, clock, table, name)
    except (subprocess.SubprocessError, OSError, TimeoutError) as e:
        table.add(name, "file made", str(e), False)
        return
    with tempfile.TemporaryDirectory() as cache:
        for step in (check_tokens, check_health, check_speed):
            try:
                step(args, clock, table, name, cache)
            except (subprocess.SubprocessError, OSError, RuntimeError, ValueError, KeyError) as e:
                table.add(name, step.__name__.replace("_", " "), f"not done: {e}", False)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("folder", help="where the files are, or are made")
    p.add_argument("--models", default=DEFAULT, help=f"presets of make_model.py [{DEFAULT}]")
    p.add_argument("--worker", default=os.path.join(HERE, "..", "..", "build", "worker-orcd"))
    p.add_argument("--device", default="cuda")
    p.add_argument("--seconds", type=float, default=540, help="for everything [540]")
    p.add_argument("--runs", type=int, default=5, help="of bench [5]")
    p.add_argument("--prompt-tokens", default="512,2048")
    p.add_argument("--context", default="128,1024")
    p.add_argument("--layers", type=int, help="fewer layers than the real model, for a trial")
    p.add_argument("--json", help="also write the table here")
    args = p.parse_args()
    args.make_options = ["--layers", str(args.layers)] if args.layers else []
    os.makedirs(args.folder, exist_ok=True)
    clock, table = Clock(args.seconds), Table()
    for name in args.models.split(","):
        check_model(args, clock, table, name)
    failed = table.show()
    if args.json:
        with open(args.json, "w") as f:
            json.dump([dict(zip(("model", "what", "figure", "required", "verdict"), r)) for r in table.rows], f, indent=1)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
