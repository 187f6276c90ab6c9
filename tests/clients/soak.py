"""Chats over 100 connections that stay open, whole and streamed, of all the APIs, while /health is asked; then what
they left behind. Needs Python alone.

Arguments: the worker's port, its process's number, how many requests to warm up with, how many to count. Prints
the figures; status 1 where a request was not answered or memory grew.
"""
import asyncio
import json
import os
import sys
import time

PORT, PID, WARM, COUNT = map(int, sys.argv[1:5])
CONNECTIONS = 100
GROWTH_KB_MOST = 2048
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


def request_of(number):
    """A path, a body, and the text that ends a whole answer's stream; None for an answer in one piece."""
    text = f"Number {number} of many. " * (1 + number % 7)
    chat = {"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": 1 + number % 6, "seed": number}
    kinds = [
        ("/v1/chat/completions", chat, None),
        ("/v1/chat/completions", chat | {"stream": True}, b"data: [DONE]\n\n"),
        ("/v1/chat/completions", chat | {"tools": TOOLS, "n": 2, "logprobs": True, "top_logprobs": 3}, None),
        ("/v1/completions", {"prompt": text, "max_tokens": 3, "stream": True}, b"data: [DONE]\n\n"),
        ("/v1/responses", {"input": text, "max_output_tokens": 4, "stream": True}, b"event: response."),
        ("/v1/messages", chat | {"stream": True}, b"event: message_stop"),
    ]
    return kinds[number % len(kinds)]


async def read_answer(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
    if b"content-length" in headers:
        return status, await reader.readexactly(int(headers[b"content-length"]))
    body = b""
    while True:  # chunked
        size = int(await reader.readuntil(b"\r\n"), 16)
        body += (await reader.readexactly(size + 2))[:-2]
        if size == 0:
            return status, body


async def exchange(connection, method, path, body=b""):
    reader, writer = connection
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                 f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()
    return await read_answer(reader)


async def client(numbers):
    connection = await asyncio.open_connection("127.0.0.1", PORT)
    for number in numbers:
        path, body, end = request_of(number)
        status, answer = await exchange(connection, "POST", path, json.dumps(body).encode())
        assert status == 200 and (end is None or end in answer), (path, status, answer[-500:])
        if end is None:
            assert json.loads(answer)["usage"]["prompt_tokens"] > 0, answer
    connection[1].close()


async def ask_health(times):
    connection = await asyncio.open_connection("127.0.0.1", PORT)
    while True:
        began = time.perf_counter()
        status, _ = await exchange(connection, "GET", "/health")
        times.append(time.perf_counter() - began)
        assert status == 200
        await asyncio.sleep(0.02)


def resident_kb():
    with open(f"/proc/{PID}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


async def run(first, count):
    """Each connection takes the next number when it has its answer."""
    numbers = iter(range(first, first + count))
    await asyncio.gather(*[client(numbers) for _ in range(CONNECTIONS)])


async def main():
    times = []
    health = asyncio.create_task(ask_health(times))
    await run(0, WARM)
    before, began = resident_kb(), time.monotonic()
    times.clear()
    await run(WARM, COUNT)
    after, took = resident_kb(), time.monotonic() - began
    assert not health.done(), health.result()
    health.cancel()
    times.sort()
    print(f"{COUNT} requests over {CONNECTIONS} connections in {took:.1f} s ({COUNT / took:.0f} a second): "
          f"all answered; resident {before} kB after {WARM}, {after} kB after {WARM + COUNT}; /health beside it, "
          f"as this busy client sees it: median {times[len(times) // 2] * 1e3:.2f} ms, "
          f"p99 {times[len(times) * 99 // 100] * 1e3:.2f} ms")
    assert after - before < GROWTH_KB_MOST, "memory grows"


asyncio.run(main())
