#!/usr/bin/env python3
"""Measures what a conversation costs beside /execute, on a worker that is up.

    measure_chat.py URL [--requests N] [--messages N]

Time to the first token of a streamed chat, against /execute with the same tokens, one after the other: the rendered
text of the conversation comes from /apply-template. Then a conversation of many messages, by /tokenize: rendering and
encoding it, without a job. Prints medians and quartiles in milliseconds.
"""
import argparse
import http.client
import json
import statistics
import time
import urllib.parse


class Client:
    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        self.connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=120)
        self.connection.connect()
        self.connection.sock.setsockopt(6, 1, 1)  # TCP_NODELAY

    def post(self, path, body):
        self.connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        return self.connection.getresponse()

    def ask(self, path, body):
        response = self.post(path, body)
        text = response.read()
        assert response.status == 200, (path, response.status, text[:300])
        return json.loads(text)

    def first_token_ms(self, path, body, marks):
        """Until an event that has one of the marks; then the rest is read."""
        began = time.perf_counter()
        response = self.post(path, body)
        assert response.status == 200, (path, response.status, response.read()[:300])
        first = None
        while line := response.readline():
            if first is None and any(mark in line for mark in marks):
                first = (time.perf_counter() - began) * 1e3
        return first


def show(name, values):
    low, middle, high = statistics.quantiles(values, n=4)
    print(f"{name:40} median {middle:8.3f} ms   quartiles {low:.3f} to {high:.3f}   of {len(values)}")
    return middle


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--messages", type=int, default=200)
    parser.add_argument("--words", type=int, default=110, help="of each of the many messages")
    args = parser.parse_args()
    client = Client(args.url)
    words = "the quick brown fox jumps over the lazy dog while seven wizards box quietly in the garden".split()

    def messages(count, length):
        text = " ".join(words[i % len(words)] for i in range(length))
        return [{"role": "assistant" if i % 2 else "user", "content": f"{i}: {text}"} for i in range(count)]

    for count, length in ((1, 10), (21, 40)):
        conversation = messages(count, length)
        prompt = client.ask("/apply-template", {"messages": conversation})["prompt"]
        chat, execute = [], []
        for i in range(args.requests + 5):
            e = client.first_token_ms("/execute", {"job_id": f"m{i}", "prompt": prompt, "max_tokens": 4,
                                                   "temperature": 0}, (b'"t":',))
            c = client.first_token_ms("/v1/chat/completions", {"messages": conversation, "max_tokens": 4,
                                                               "temperature": 0, "stream": True, "ignore_eos": True},
                                      (b'"delta":{"content":"', b'"delta":{"reasoning_content":'))
            if i >= 5 and e and c:
                chat.append(c)
                execute.append(e)
        print(f"{count} messages:")
        a, b = show("  first token, /execute", execute), show("  first token, chat", chat)
        print(f"  difference of the medians {b - a:.3f} ms")
    conversation = messages(args.messages + 1, args.words)
    times = []
    for _ in range(20):
        began = time.perf_counter()
        answer = client.ask("/tokenize", {"messages": conversation})
        times.append((time.perf_counter() - began) * 1e3)
    show(f"{len(conversation)} messages, {answer['count']} tokens, by /tokenize", times)


if __name__ == "__main__":
    main()
