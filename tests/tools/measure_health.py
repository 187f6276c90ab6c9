#!/usr/bin/env python3
"""Measures how quickly a worker answers GET /health while clients send it the worst that they may.

    measure_health.py URL [--seconds S] [--clients N] [CASE...]

One connection asks for /health every 2 ms; meanwhile N clients repeat a case, each on a connection of its own. Prints the
median, p99 and worst of /health in milliseconds, how many requests of the case were answered, and with which statuses.
"""
import argparse
import collections
import http.client
import json
import threading
import time
import urllib.parse


def conversation(count, content):
    return json.dumps({"max_tokens": 1, "messages": [
        {"role": "assistant" if i % 2 else "user", "content": content} for i in range(count)]})


def cases():
    words = "the quick brown fox jumps over the lazy dog "
    tool = {"type": "function", "function": {"name": "f", "parameters": {
        "type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(2000)}}}}
    chat, completions = "/v1/chat/completions", "/v1/completions"
    return {
        "nothing": None,
        "a message of 9 MB": (chat, conversation(1, words * 200000)),
        "10,001 messages": (chat, conversation(10001, words)),
        "10,001 messages of 900 bytes": (chat, conversation(10001, words * 20)),
        "a message of 60 KB": (chat, conversation(1, words * 1300)),
        "9 MB of one letter": (chat, conversation(1, "a" * 9000000)),
        "50 large tools": (chat, json.dumps({"max_tokens": 1, "messages": [{"role": "user", "content": "x"}],
                                             "tools": [tool] * 50})),
        "an image": (chat, json.dumps({"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "data:" + "A" * 5000000}}]}]})),
        "no JSON": (chat, "{" * 5000000),
        "2 million values": (chat, json.dumps({"messages": [0] * 2000000})),
        "8 choices": (completions, json.dumps({"prompt": words, "n": 8, "max_tokens": 64, "logprobs": 20})),
        "short chats": (chat, conversation(1, "hi")),
    }


class Load:
    def __init__(self, url, case, clients):
        self.statuses = collections.Counter()
        self.stopped = False
        self.threads = [threading.Thread(target=self.repeat, args=(url, *case)) for _ in range(clients if case else 0)]
        for thread in self.threads:
            thread.start()

    def repeat(self, url, path, body):
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=300)
        while not self.stopped:
            try:
                connection.request("POST", path, body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                response.read()
                self.statuses[response.status] += 1
            except OSError as error:
                self.statuses[type(error).__name__] += 1
                connection.close()

    def stop(self):
        self.stopped = True
        for thread in self.threads:
            thread.join()


def ask_health(url, seconds):
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
    times, until = [], time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        connection.request("GET", "/health")
        connection.getresponse().read()
        times.append((time.perf_counter() - began) * 1e3)
        time.sleep(0.002)
    return sorted(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("case", nargs="*", help="parts of cases' names; all of them by default")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--clients", type=int, default=4)
    args = parser.parse_args()
    url = urllib.parse.urlsplit(args.url)
    for name, case in cases().items():
        if args.case and not any(part in name for part in args.case):
            continue
        load = Load(url, case, args.clients)
        times = ask_health(url, args.seconds)
        load.stop()
        p99 = times[int(len(times) * 0.99)]
        print(f"{name:32} median {times[len(times) // 2]:7.2f}  p99 {p99:7.2f}  worst {times[-1]:7.2f} ms  "
              f"{dict(load.statuses)}", flush=True)


if __name__ == "__main__":
    main()
