"""A router in front of two workers: load, a worker that is killed and comes back, one that drains under load.

Arguments: vllm or sglang, the worker's program, a model, its chat template.
"""
import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

import openai
from common import await_true, equal, get, metric

KIND, PROGRAM, MODEL, TEMPLATE = sys.argv[1:5]
MODULES = {"vllm": "vllm_router.launch_router", "sglang": "sglang_router.launch_router"}


class Process:
    def __init__(self, log, command):
        self.log = open(log, "w")
        self.log_path = log
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)

    def read_log(self):
        with open(self.log_path, errors="replace") as file:
            return file.read()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Worker(Process):
    def __init__(self, folder, name, port=0):
        super().__init__(f"{folder}/{name}.log", [
            PROGRAM, "--model", MODEL, "--device", "cpu", "--threads", "1", "--chat-template", TEMPLATE, "--port",
            str(port), "--max-jobs", "2", "--log-format", "json", "--served-model-name", "tiny"])
        await_true(f"{name} is ready", self.is_ready)

    def is_ready(self):
        assert self.process.poll() is None, self.read_log()
        for line in self.read_log().splitlines(keepends=True):
            if '"event":"ready"' in line and line.endswith("\n"):
                self.port = json.loads(line)["port"]
                return True
        return False

    def answered(self):
        return metric(self.port, 'worker_requests_total{outcome="success"}')


def free_port():
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Router(Process):
    def __init__(self, folder, workers):
        self.port = free_port()
        super().__init__(f"{folder}/router.log", [
            sys.executable, "-m", MODULES[KIND], "--host", "127.0.0.1", "--port", str(self.port), "--worker-urls",
            *[f"http://127.0.0.1:{w.port}" for w in workers], "--policy", "power_of_two",
            "--prometheus-port", str(free_port()), "--worker-startup-timeout-secs", "120",
            "--worker-startup-check-interval", "1", "--health-check-interval-secs", "1", "--health-check-timeout-secs",
            "30", "--health-failure-threshold", "2", "--health-success-threshold", "1", "--cb-timeout-duration-secs",
            "2", "--retry-max-retries", "8", "--retry-initial-backoff-ms", "50"])
        await_true("the router is ready", self.is_ready, 150)

    def is_ready(self):
        assert self.process.poll() is None, self.read_log()[-4000:]
        try:
            return get(self.port, "/health")[0] == 200 and self.try_one()
        except OSError:
            return False

    def try_one(self):
        try:
            ask(self.client(), 0)
            return True
        except openai.APIError:
            return False

    def client(self):
        return openai.OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key="none", max_retries=0, timeout=120)


def ask(client, number, max_tokens=8):
    answer = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": f"Number {number} of many"}], max_tokens=max_tokens,
        seed=number, logit_bias=None, extra_body={"ignore_eos": True})
    equal(max_tokens, answer.usage.completion_tokens)
    return answer.choices[0].message.content


def stream(client, number):
    chunks = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": f"Stream {number}"}], max_tokens=8, seed=number, stream=True,
        stream_options={"include_usage": True})
    last = [c.usage for c in chunks if c.usage]
    assert len(last) == 1 and last[0].completion_tokens > 0


class Load:
    """Requests without a pause by several clients, until it is stopped; what fails is kept."""

    def __init__(self, client, threads=4):
        self.stopping, self.failures, self.answered = threading.Event(), [], 0
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(client, i)) for i in range(threads)]
        for t in self.threads:
            t.start()

    def run(self, client, first):
        number = first
        while not self.stopping.is_set():
            try:
                ask(client, number)
                with self.lock:
                    self.answered += 1
            except Exception as e:
                with self.lock:
                    self.failures.append(e)
            number += 100

    def more(self, count):
        goal = self.answered + count
        await_true(f"{count} more answers", lambda: self.answered >= goal)

    def stop(self):
        self.stopping.set()
        for t in self.threads:
            t.join()


def main(folder):
    workers = [Worker(folder, "first"), Worker(folder, "second")]
    router = Router(folder, workers)
    try:
        client = router.client()
        # Load is spread: both workers answer some.
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda i: ask(client, i), range(24)))
            list(pool.map(lambda i: stream(client, i), range(8)))
        assert min(w.answered() for w in workers) > 0, [w.answered() for w in workers]
        # The same seed gives the same text, whichever worker answers.
        equal(1, len({ask(client, 7) for _ in range(8)}))
        assert ask(client, 7) != ask(client, 8)
        assert sum(w.answered() for w in workers) >= 32
        print(KIND, "spread", [w.answered() for w in workers])

        # One drains under load: nothing is lost.
        load = Load(client)
        load.more(10)
        workers[0].process.send_signal(signal.SIGTERM)
        equal(0, workers[0].process.wait(60))
        load.more(10)
        load.stop()
        equal([], load.failures)
        workers[0] = Worker(folder, "first-again", workers[0].port)
        await_true("it has work again", lambda: router.try_one() and workers[0].answered() > 0)
        print(KIND, "drained and back")

        # One is killed while nothing runs; the other answers, and it comes back.
        workers[1].kill()
        await_true("the router sees it", router.try_one)
        for i in range(10):
            ask(client, i)
        workers[1] = Worker(folder, "second-again", workers[1].port)
        await_true("it has work again", lambda: router.try_one() and workers[1].answered() > 0)
        print(KIND, "killed and back")
    except BaseException:
        print(router.read_log()[-6000:])
        raise
    finally:
        for process in [router, *workers]:
            process.kill()


with tempfile.TemporaryDirectory() as folder:
    main(folder)
