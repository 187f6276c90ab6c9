#!/usr/bin/env python3
"""What the worker promises as a process, on the GPU at hand: a line for each promise, with its figure.

    python3 tests/tools/check_gpu_worker.py --model FILE.gguf [--worker build/worker-orcd] [--jobs 1000]

The model may have random weights (tests/make_model.py), but needs a context of 2,048 tokens or more. Takes
less than a minute on a small model. Needs python3, and a C compiler for break_gpu.c, which makes a CUDA error while
the worker serves. The status is 1 where a promise was not kept. --device cpu tries the script itself where there
is no GPU; its figures then say nothing, and no GPU is broken.
"""

import argparse
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

failures = []


def report(what, ok, figure=""):
    print(f"{'pass' if ok else 'FAIL'}  {what}{': ' if figure else ''}{figure}", flush=True)
    if not ok:
        failures.append(what)


def note(what, figure):
    print(f"      {what}: {figure}", flush=True)


def within(what, value, limit, unit):
    report(what, value < limit, f"{value:.3g} {unit} (less than {limit:g})")


class Worker:
    """A worker process, its log, and a client of it."""

    def __init__(self, args, *more, model=None, cache=None, env=None):
        command = [args.worker, "--model", model or args.model, "--device", args.device, "--port", "0"]
        command += ["--log-format", "json", "--jit-cache", cache or args.cache, *more]
        self.log_path = tempfile.mktemp(dir=args.folder, suffix=".log")
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            command, stderr=open(self.log_path, "wb"), stdout=subprocess.DEVNULL, env={**os.environ, **(env or {})}
        )
        ready = self.await_event("ready", 300)
        self.ready_seconds = time.monotonic() - self.began
        self.port = ready["port"]
        self.load_seconds = ready["load_seconds"]

    def events(self):
        with open(self.log_path) as file:
            return [json.loads(line) for line in file if line.endswith("\n")]

    def await_event(self, name, seconds=10):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for event in self.events():
                if event["event"] == name:
                    return event
            if self.process.poll() is not None:
                break
            time.sleep(0.002)
        sys.exit(f"no event {name}:\n{open(self.log_path).read()}")

    def ask(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, None if body is None else json.dumps(body), headers or {})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    def health(self):
        return json.loads(self.ask("GET", "/health")[1])

    def open_job(self, body):
        """A stream that is left unread: the socket holds it."""
        text = json.dumps(body).encode()
        stream = socket.create_connection(("127.0.0.1", self.port))
        stream.sendall(b"POST /execute HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
        return stream

    def await_jobs(self, n, seconds=10):
        """When so many jobs were active."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            connection.request("GET", "/health")
            if json.loads(connection.getresponse().read())["jobs_active"] == n:
                break
        now = time.monotonic()
        connection.close()
        return now

    def stop(self):
        """Its status, and how long it took to end."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60), time.monotonic() - began


def gpu_megabytes():
    """What nvidia-smi says is in use, or None."""
    if not shutil.which("nvidia-smi"):
        return None
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    answer = subprocess.run(command, capture_output=True, text=True)
    return int(answer.stdout.split()[0]) if answer.returncode == 0 and answer.stdout.strip() else None


def resident_kb(worker):
    with open(f"/proc/{worker.process.pid}/status") as file:
        return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))


def text_of(stream):
    return "".join(json.loads(data)["t"] for data in re.findall(r"event: token\ndata: (.*)\n", stream))


def prompt_of(words):
    return " ".join(f"word {i % 10}" for i in range(words // 2))


def check_starts(args):
    cold = Worker(args, cache=os.path.join(args.folder, "jit"))
    cold.stop()
    warm = Worker(args, cache=os.path.join(args.folder, "jit"))
    within("start to ready, kernels compiled", cold.ready_seconds, 2, "s")
    within("start to ready, kernels from the cache", warm.ready_seconds, 1, "s")
    for worker, name in ((cold, "compiled"), (warm, "cached")):
        events = {event["event"]: event for event in worker.events()}
        jit = events.get("jit_complete", {}).get("jit_seconds", 0)
        note(f"of that, {name}", f"load {events['model_load_complete']['load_seconds']} s, kernels {jit} s")
    percents = [event["percent"] for event in warm.events() if event["event"] == "model_load_progress"]
    report("load progress events", percents == [0, 25, 50, 75, 100], str(percents))
    args.cache = os.path.join(args.folder, "jit")
    return warm


def check_health_fields(args, worker):
    health = worker.health()
    on_gpu = args.device == "cuda"
    report("resident", health["resident"] == on_gpu and health["status"] == "healthy")
    wanted = ("sm", "cuda_runtime_version", "driver_version", "vram_bytes_used", "vram_bytes_total")
    values = {name: health[name] for name in wanted}
    report("what /health says of the GPU", all(values.values()) == on_gpu, json.dumps(values))


def check_many_jobs(args, worker):
    def job(i):
        body = {"job_id": f"j{i}", "prompt": f"Number {i % 7} of many", "max_tokens": 1 + i % 8}
        return worker.ask("POST", "/execute", body | {"seed": i % 7, "temperature": 1 - i % 2})

    texts = {}
    job(0)
    job(1)
    before = (worker.health()["vram_bytes_used"], gpu_megabytes())
    kb_before = resident_kb(worker)
    began, wrong, different = time.monotonic(), 0, 0
    for i in range(args.jobs):
        status, stream = job(i)
        wrong += status != 200 or stream.count("event: end") != 1
        key = (i % 7, i % 8, i % 2)
        different += texts.setdefault(key, text_of(stream)) != text_of(stream)
    took = time.monotonic() - began
    after = (worker.health()["vram_bytes_used"], gpu_megabytes())
    report(f"{args.jobs} jobs, each with one end", wrong == 0, f"{took:.1f} s, {wrong} wrong")
    report("the same request gives the same text", different == 0, f"{len(texts)} different requests")
    figure = f"{before} and {after} (bytes, MB of nvidia-smi)"
    report("VRAM after them against before", before == after, figure)
    note("memory of the process", f"{kb_before} KB before, {resident_kb(worker)} KB after")


def check_first_token(args, worker):
    best, tokens = 1e9, 0
    body = {"job_id": "f", "prompt": prompt_of(args.prompt_words), "max_tokens": 2, "temperature": 0}
    for _ in range(5):
        worker.ask("POST", "/execute", body)
        end = [event for event in worker.events() if event["event"] == "execute_end"][-1]
        best, tokens = min(best, end["first_token_ms"]), end["tokens_in"]
    within(f"first token after a prompt of {tokens} tokens", best, 10 * max(1, tokens / 512), "ms")


def check_validation(args, worker):
    """Of a request that is refused for its last field, all the way through the sockets."""
    connection = http.client.HTTPConnection("127.0.0.1", worker.port)
    times = []
    body = json.dumps({"job_id": "v", "prompt": "0123456789abcdef" * 2048, "temperature": 3})
    for _ in range(50):
        began = time.monotonic()
        connection.request("POST", "/execute", body)
        answer = connection.getresponse()
        answer.read()
        times.append((time.monotonic() - began) * 1e3)
    report("a temperature of 3 is refused", answer.status == 400)
    within("a request of 32 KiB read and refused", sorted(times)[len(times) // 2], 1, "ms, the median")


def check_health_time(args, worker):
    """64 connections, eight of which ask at once, while a job runs."""
    request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    pollers = [socket.create_connection(("127.0.0.1", worker.port)) for _ in range(64)]
    times, busy, job = [], 0, None
    for turn in range(24 * 8):
        if turn % 24 == 0:
            if job:
                job.close()
                worker.await_jobs(0)
            job = worker.open_job({"job_id": f"b{turn}", "prompt": "p", "max_tokens": 1900, "seed": turn})
        some = pollers[turn % 8 * 8 : turn % 8 * 8 + 8]
        began = []
        for poller in some:
            began.append(time.monotonic())
            poller.sendall(request)
        for poller, start in zip(some, began):
            answer = poller.recv(4096)
            times.append((time.monotonic() - start) * 1e3)
            busy += b'"jobs_active":1' in answer
    job.close()
    for poller in pollers:
        poller.close()
    times.sort()
    within("/health with 64 pollers, p99", times[len(times) * 99 // 100], 10, "ms")
    note("of those answers while a job ran", f"{busy} of {len(times)}")
    worker.await_jobs(0)


def longest_prompt(worker):
    """About the longest that the context and the limit on characters allow; and how many tokens it has."""
    words = 9000
    while True:
        body = {"job_id": "l", "prompt": prompt_of(words), "max_tokens": 200}
        stream = worker.open_job(body)
        answer = stream.recv(65536)
        while b"tokens_in" not in answer and b'"error"' not in answer:
            answer += stream.recv(65536)
        stream.close()
        worker.await_jobs(0)
        if b"tokens_in" in answer:
            return body["prompt"], int(re.search(rb'"tokens_in":(\d+)', answer).group(1))
        words = words * 3 // 4


def check_idle(args, worker):
    """From a cancellation, or from hanging up, to no job."""
    prompt, tokens = longest_prompt(worker)
    note("the long prompt", f"{tokens} tokens")
    long = {"prompt": prompt, "max_tokens": 200}
    short = {"prompt": "p", "max_tokens": 1900}
    for name, body, wait in (("in a long prompt", long, 0.005), ("while it writes", short, 0.05)):
        for by in ("cancel", "disconnect"):
            most, caught = 0, 0
            for i in range(5):
                stream = worker.open_job(body | {"job_id": f"c{i}", "seed": i})
                worker.await_jobs(1, 1)
                time.sleep(wait)
                began = time.monotonic()
                if by == "cancel":
                    caught += "cancelling" in worker.ask("POST", "/cancel", {"job_id": f"c{i}"})[1]
                else:
                    caught += worker.health()["jobs_active"] == 1
                    began = time.monotonic()
                    stream.close()
                most = max(most, (worker.await_jobs(0) - began) * 1e3)
                stream.close()
            within(f"{by} to idle {name}", most, 100, "ms, the most of 5")
            note("caught while they ran", f"{caught} of 5")


def check_side_by_side(args):
    """Alone and beside others: the same text."""
    worker = Worker(args, "--max-jobs", "4")
    bodies = [{"job_id": f"s{i}", "prompt": f"Story {i}:", "max_tokens": 40, "seed": i} for i in range(4)]
    alone = [text_of(worker.ask("POST", "/execute", body)[1]) for body in bodies]
    streams = [worker.open_job(body) for body in bodies]
    worker.await_jobs(0)
    together = []
    for stream in streams:
        data = b""
        while b"event: end" not in data and b"event: error" not in data:
            data += stream.recv(65536)
        lines = re.sub(rb"\r\n[0-9a-f]+\r\n", b"", data).decode()
        together.append(text_of(lines))
        stream.close()
    report("four jobs side by side have the texts that each has alone", alone == together)
    worker.stop()


def check_sandbox(args):
    worker = Worker(args, "--sandbox", "--max-jobs", "2")
    with open(f"/proc/{worker.process.pid}/status") as file:
        status = file.read()
    report("--sandbox is entered", "Seccomp:\t2" in status and "NoNewPrivs:\t1" in status)
    ends = 0
    for i in range(20):
        body = {"job_id": "s", "prompt": prompt_of(100), "max_tokens": 20, "temperature": 0 if i % 2 else 1}
        ends += "event: end" in worker.ask("POST", "/execute", body)[1]
    report("--sandbox serves", ends == 20 and worker.health()["status"] == "healthy", f"{ends} of 20 jobs")
    holds = worker.await_event("sandbox")["holds"]
    report("--sandbox says what holds", holds.startswith("seccomp"), holds)
    time.sleep(65)  # the driver is asked where the memory is every 60 s
    health = worker.health()
    report("--sandbox lets the check of residency pass", health["resident"] and health["status"] == "healthy")
    ends = sum("event: end" in worker.ask("POST", "/execute", body)[1] for _ in range(5))
    report("--sandbox serves after that, too", ends == 5, f"{ends} of 5 jobs")
    code, _ = worker.stop()
    report("--sandbox ends cleanly", code == 0, f"status {code}")


def check_not_numbers(args):
    """A copy of the model with a NaN in the middle layer's norm: an error that names it, and no more."""
    listing = subprocess.run([args.worker, "inspect", "--json", args.model], capture_output=True, text=True)
    tensors = json.loads(listing.stdout)["tensors"]
    offsets = {t["name"]: t["offset"] for t in tensors if t["type"] == "F32"}
    layer = sum(name.endswith(".ffn_norm.weight") for name in offsets) // 2
    offset = offsets[f"blk.{layer}.ffn_norm.weight"]
    path = os.path.join(args.folder, "spoiled.gguf")
    shutil.copy(args.model, path)
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(b"\x00\x00\xc0\x7f")
    worker = Worker(args, model=path)
    for temperature in (0, 1):
        body = {"job_id": "n", "prompt": "Hello", "temperature": temperature}
        _, stream = worker.ask("POST", "/execute", body)
        named = re.search(r'"code":"INTERNAL","message":"([^"]*)"', stream)
        ok = named and f"layer {layer}," in named.group(1) and "event: token" not in stream
        figure = named.group(1) if named else stream
        report(f"NaN in layer {layer} is named, temperature {temperature}", ok, figure)
    report("and the worker goes on", worker.health()["status"] == "healthy")
    worker.stop()
    os.remove(path)


def read_to_end(stream):
    data = b""
    while piece := stream.recv(65536):
        data += piece
    stream.close()
    return data.decode()


def check_lost_gpu(args):
    """A kernel that writes where nothing is, in the worker's own context: every later call fails."""
    if args.device != "cuda":
        return
    here = os.path.dirname(os.path.abspath(__file__))
    library, trigger = (os.path.join(args.folder, name) for name in ("break_gpu.so", "break"))
    compile_it = ["cc", "-shared", "-fPIC", "-o", library, os.path.join(here, "break_gpu.c"), "-lpthread"]
    subprocess.run(compile_it, check=True)
    before = gpu_megabytes()
    for name, n_jobs in (("while three jobs run", 3), ("while nothing runs", 0)):
        worker = Worker(args, "--max-jobs", "4", env={"LD_PRELOAD": library, "BREAK_GPU": trigger})
        bodies = [{"job_id": f"e{i}", "prompt": "p", "max_tokens": 1900, "seed": i} for i in range(n_jobs)]
        streams = [worker.open_job(body) for body in bodies]
        worker.await_jobs(n_jobs)
        began = time.monotonic()
        open(trigger, "w").close()
        if not n_jobs:
            time.sleep(0.3)
            began = time.monotonic()
            status, text = worker.ask("POST", "/execute", {"job_id": "e", "prompt": "p"})
            report("the next job after that is told", status == 500 and "CUDA_ERROR" in text, text.strip()[:200])
        healths = set()
        while worker.process.poll() is None and time.monotonic() < began + 10:
            try:
                healths.add(worker.ask("GET", "/health")[0])
            except OSError:
                pass
            time.sleep(0.005)
        seconds = time.monotonic() - began
        ends = [read_to_end(stream) for stream in streams]
        told = sum(end.count("event: error") == 1 and '"code":"CUDA_ERROR"' in end for end in ends)
        report(f"CUDA error {name}: exit 3", worker.process.poll() == 3, f"status {worker.process.poll()}")
        report("and /health says 503 before", 503 in healths, str(sorted(healths)))
        if n_jobs:
            report("and each stream says CUDA_ERROR", told == n_jobs, f"{told} of {n_jobs}: {ends[0][-160:].strip()}")
        within("and all that takes", seconds, 2, "s")
        os.remove(trigger)
    time.sleep(1)
    after = gpu_megabytes()
    report("nothing is left on the GPU", after == before, f"{before} MB before, {after} MB after")


def check_kill(args):
    before = gpu_megabytes()
    worker = Worker(args)
    worker.open_job({"job_id": "k", "prompt": "p", "max_tokens": 1900})
    time.sleep(0.05)
    worker.process.kill()
    worker.process.wait()
    time.sleep(1)
    after = gpu_megabytes()
    report("kill -9 leaves nothing on the GPU", after == before, f"{before} MB before, {after} MB after")
    again = Worker(args)
    again.stop()
    note("the next one is ready after", f"{again.ready_seconds:.2f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--worker", default="build/worker-orcd")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--prompt-words", type=int, default=256, help="of the prompt for the first token")
    args = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as args.folder:
        args.cache = "none"
        worker = check_starts(args)
        for check in (check_health_fields, check_many_jobs, check_first_token, check_validation,
                      check_health_time, check_idle):
            check(args, worker)
        code, seconds = worker.stop()
        report("SIGTERM ends it with 0", code == 0, f"status {code}")
        within("SIGTERM to exit, idle", seconds, 1, "s")
        for check in (check_side_by_side, check_sandbox, check_not_numbers, check_lost_gpu, check_kill):
            check(args)
    print(f"{len(failures)} failed, {time.monotonic() - began:.0f} s")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
