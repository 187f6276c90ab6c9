"""A worker whose answers are written down: what a model cannot be asked to do on demand.

It serves a real worker's page with its headers, and answers the page's requests from ANSWERS, by the last
message of the conversation. What it was asked is in `requests`.
"""

import json
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOSTILE = """<script>window.ran = 'script'</script>
<img src=x onerror="window.ran = 'onerror'"> <svg onload="window.ran = 'svg'"><a href="javascript:window.ran=1">a</a>

[press](javascript:window.ran='link') [press](JaVaScRiPt:window.ran='case') [press](data:text/html,<script>1</script>)
[press](<javascript:window.ran='angle'>) <javascript:window.ran='auto'> ![x](x" onerror="window.ran='alt')
[press](&#106;avascript:window.ran='entity') [press](vbscript:x) ![pixel](http://tracker.invalid/pixel.png)
[press](java\nscript:window.ran='line') [press](//evil.invalid/x) [press](/shutdown)

```html"><script>window.ran='fence'</script>
</code></pre><script>window.ran = 'code'</script><img src=x onerror=window.ran='code'>
```

| <img src=x onerror=window.ran='cell'> | b |
|---|---|
| `</td><script>window.ran='td'</script>` | <iframe src="javascript:window.ran=2"></iframe> |

<style>body { display: none }</style><base href="http://evil.invalid/"><meta http-equiv="refresh" content="0;url=http://evil.invalid">
"""

MARKDOWN = """# A heading

Some *emphasis*, **strength**, ~~no~~, `code`, and a [link](https://example.org/a_b).

1. one
2. two
   - nested
   - [x] done

> A quote that
> goes on.

| Name | Size |
|:-----|-----:|
| a    |   10 |
| b    |  200 |

```python
def greet(name: str) -> str:
    # A comment
    return f"Hello, {name}" + str(42)
```

The last line with \\(x^2\\).
"""

HEALTH = {
    "status": "healthy", "model": "Qwen3 4B Instruct", "model_ref": "file:/srv/models/qwen3-4b-instruct.Q4_K_M.gguf",
    "worker_id": "5f2b8e1c-33a1-4c2e-9c0e-6f1d0b7f9a10", "resident": True, "quant_kind": "Q4_K_M",
    "kv_cache_type": "f16",
    "vram_bytes_used": 9_800_000_000, "vram_bytes_total": 24_000_000_000, "tokenizer_kind": "gguf-bpe",
    "vocab_size": 151936, "context_length": 32768, "uptime_seconds": 5400, "sm": 89, "driver_version": "550.54",
    "jobs_active": 1, "jobs_max": 16, "load_progress": 1.0,
}


def metrics(step):
    """What /metrics says at its `step`-th reading."""
    lines = [
        f"worker_jobs_active {3 + step % 3}", f"worker_jobs_queued {step % 2}",
        f"worker_tokens_generated_total {1000 + 170 * step}", "worker_vram_bytes 9800000000",
        "worker_kv_used_ratio 0.31",
    ]
    for state, pages in (("used", 310), ("cached", 200), ("free", 490)):
        lines.append(f'worker_kv_pages{{state="{state}"}} {pages}')
    for name in "first_token_ms", "inter_token_ms", "queue_ms", "inference_duration_ms", "batch_rows":
        total = 0
        for bound, count in (("1", 0), ("2.5", 2), ("5", 9), ("10", 30), ("25", 21), ("50", 6), ("100", 1), ("+Inf", 0)):
            total += count * (step + 1)
            lines.append(f'worker_{name}_bucket{{le="{bound}"}} {total}')
        lines += [f"worker_{name}_sum 12.5", f"worker_{name}_count {total}"]
    return "# HELP worker_jobs_active Jobs.\n# TYPE worker_jobs_active gauge\n" + "\n".join(lines) + "\n"


def content(text):
    return {"content": text}


def call(index, name, arguments, call_id):
    """A call in three pieces, as servers send it."""
    middle = len(arguments) // 2
    return [
        {"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}]},
        {"tool_calls": [{"index": index, "function": {"arguments": arguments[:middle]}}]},
        {"tool_calls": [{"index": index, "function": {"arguments": arguments[middle:]}}]},
    ]


def pieces(text, size=7):
    return [content(text[i : i + size]) for i in range(0, len(text), size)]


# By the last message: the deltas of the stream. A number is a pause in seconds, "gone" the connection's end.
ANSWERS = {
    "Hello": pieces("Hello! How can I help?"),
    "Hello again": pieces("Hello again!"),
    "markdown": pieces(MARKDOWN),
    "hostile": pieces(HOSTILE),
    "hostile reasoning": [{"reasoning_content": HOSTILE}, content("done")],
    "hostile call": call(0, "<img src=x onerror=window.ran='name'>", '{"a": "<script>window.ran=3</script>"}', "c1"),
    "think": [{"reasoning_content": "The user wants "}, {"reasoning_content": "**4**."}, *pieces("It is 4.")],
    "think otherwise": [{"reasoning": "Another name."}, *pieces("It is 5.")],
    "weather": [content("Let me look. "), *call(0, "get_weather", '{"city": "Paris"}', "call_1"),
                *call(1, "get_weather", '{"city": "Rome"}', "call_2")],
    "slow": [content("This takes "), *[piece for i in range(2000) for piece in (0.05, content(f"long{i} "))]],
    "gone": [content("I was about to "), 0.2, "gone"],
    "broken": [content("Half of "), {"error": {"message": "the device was lost"}}],
    "nothing": [],
}
TIMINGS = {"queued_ms": 2100.5, "prefill_ms": 30, "decode_ms": 900, "first_token_ms": 2130.25, "tokens_per_second": 41.26}
STATUSES = {"401": 401, "403": 403, "404": 404, "400": 400, "413": 413, "429": 429, "500": 500, "503": 503, "504": 504}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body, content_type="application/json", headers=()):
        data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        for name, value in (("Content-Type", content_type), ("Content-Length", str(len(data))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def handle_one_request(self):
        super().handle_one_request()
        self.close_connection |= self.server.mock.is_gone

    def do_GET(self):
        mock = self.server.mock
        if mock.is_gone:
            pass
        elif self.path == "/":
            with urllib.request.urlopen(mock.worker + "/") as answer:
                kept = [(k, v) for k, v in answer.headers.items() if k not in ("Content-Length", "Content-Type", "Date")]
                self.reply(200, answer.read(), answer.headers["Content-Type"], kept)
        elif self.path == "/health":
            self.reply(200, {**HEALTH, **mock.health})
        elif mock.key and self.headers.get("Authorization") != f"Bearer {mock.key}":
            self.reply(401, {"error": {"message": "a valid bearer token is required"}})
        elif self.path == "/v1/models":
            self.reply(200, {"object": "list", "data": [{"id": "qwen3-4b-instruct", "object": "model"}]})
        elif self.path == "/metrics":
            mock.readings += 1
            self.reply(200, mock.metrics if mock.metrics is not None else metrics(mock.readings), "text/plain")
        else:
            self.reply(404, {"error": {"message": "there is nothing at this path"}})

    def do_POST(self):
        mock = self.server.mock
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if mock.is_gone:
            return
        mock.requests.append(body)
        if mock.key and self.headers.get("Authorization") != f"Bearer {mock.key}":
            self.reply(401, {"error": {"message": "a valid bearer token is required"}})
            return
        last = body["messages"][-1]
        text = "Paris has sun, and Rome rain." if last["role"] == "tool" else last["content"]
        if text in STATUSES:
            headers = [("Retry-After", "7")] if text in ("429", "503") else []
            self.reply(STATUSES[text], {"error": {"message": f"said <b>{text}</b>", "type": "x"}}, headers=headers)
            return
        self.stream(text)

    def send(self, data):
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def event(self, value):
        self.send(f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n".encode())

    def stream(self, text):
        deltas = ANSWERS.get(text, pieces(text))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        count = 0
        try:
            self.send(b": a comment\r\n\r\n")
            for delta in deltas:
                if isinstance(delta, float):
                    time.sleep(delta)
                elif delta == "gone":
                    self.close_connection = True
                    return
                elif "error" in delta:
                    self.event(delta)
                else:
                    count += 1
                    self.event({**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
            called = any(isinstance(delta, dict) and "tool_calls" in delta for delta in deltas)
            self.event({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls" if called else "stop"}]})
            self.event({**chunk, "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": count, "total_tokens": count + 9},
                        **({"timings": TIMINGS} if text == "timed" else {})})
            self.event("[DONE]")
            self.send(b"")
        except (BrokenPipeError, ConnectionResetError):
            self.server.mock.hung_up += 1
            self.close_connection = True


class MockWorker:
    """`worker` is the address of a real one, whose page is served. With a `key`, requests need it."""

    def __init__(self, worker):
        self.worker, self.key = worker, None
        self.health, self.metrics = {}, None
        self.requests, self.hung_up, self.readings = [], 0, 0
        self.is_gone = False
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.mock = self
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def go(self):
        """Answers nobody any more, not on connections that are open either."""
        self.is_gone = True
        self.server.shutdown()
        self.server.server_close()


if __name__ == "__main__":
    import sys

    print(MockWorker(sys.argv[1]).url, flush=True)
    threading.Event().wait()
