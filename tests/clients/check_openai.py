"""The openai package, sync and async. Arguments: the ports of the quick, the slow and the strict worker."""
import asyncio
import json
import sys

import httpx
import openai
from common import WEATHER, await_idle, call, equal, metric, outcome, raises, say

QUICK, SLOW, STRICT = map(int, sys.argv[1:4])
TOOLS = [{"type": "function", "function": WEATHER}]


def url(port):
    return f"http://127.0.0.1:{port}/v1"


client = openai.OpenAI(base_url=url(QUICK), api_key="none")


def user(text):
    return [{"role": "user", "content": text}]


def ask(text, **more):
    return client.chat.completions.create(model="tiny", messages=user(text), **more)


def check_chat():
    answer = ask(say("Hello, wörld!"))
    equal("Hello, wörld!", answer.choices[0].message.content)
    equal("stop", answer.choices[0].finish_reason)
    equal("tiny", answer.model)
    equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)
    assert answer.usage.completion_tokens > 3
    again = ask(say("Hello, wörld!")).usage
    equal(again.prompt_tokens - 1, again.prompt_tokens_details.cached_tokens)
    equal(ask(say("x")).system_fingerprint, answer.system_fingerprint)
    answer = ask(say("one"), n=3)
    equal(["one"] * 3, [c.message.content for c in answer.choices])
    equal([0, 1, 2], [c.index for c in answer.choices])
    equal("abc", ask(say("abcEND def"), stop="END").choices[0].message.content)
    equal("abc", ask(say("abcEND def"), stop=["xyz", "END"]).choices[0].message.content)
    equal("length", ask(say("a b c d e f"), max_tokens=2).choices[0].finish_reason)
    equal("length", ask(say("a b c d e f"), max_completion_tokens=2).choices[0].finish_reason)
    answer = ask(say("ab"), logprobs=True, top_logprobs=2)
    tokens = answer.choices[0].logprobs.content
    equal(b"ab", b"".join(bytes(t.bytes) for t in tokens)[:2])
    equal({2}, {len(t.top_logprobs) for t in tokens})
    answer = ask(say("<think>Let me see.</think>It is 4."))
    equal("Let me see.", answer.choices[0].message.reasoning_content)
    equal("It is 4.", answer.choices[0].message.content)
    assert answer.usage.completion_tokens_details.reasoning_tokens > 0
    # What many programs send beside.
    more = dict(temperature=0.7, top_p=0.9, presence_penalty=0.5, frequency_penalty=0.5, seed=4, user="someone",
                logit_bias={"5": -100}, response_format={"type": "text"}, stream=False, store=False,
                metadata={"a": "b"}, parallel_tool_calls=True, service_tier="auto", timeout=60)
    equal("ok", ask(say("ok"), tools=TOOLS, tool_choice="auto", **more).choices[0].message.content)
    parts = [{"type": "text", "text": "Please. "}, {"type": "text", "text": "[say]parts[/say]"}]
    equal("parts", ask(parts).choices[0].message.content)
    system = [{"role": "developer", "content": "Be kind."}] + user(say("kind"))
    equal("kind", client.chat.completions.create(model="tiny", messages=system).choices[0].message.content)


def check_chat_stream():
    chunks = list(ask(say("Hello, wörld!"), stream=True, stream_options={"include_usage": True}))
    equal("assistant", chunks[0].choices[0].delta.role)
    equal("Hello, wörld!", "".join(c.choices[0].delta.content or "" for c in chunks if c.choices))
    equal(["stop"], [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason])
    equal(1, len([c for c in chunks if c.usage]))
    equal([], chunks[-1].choices)
    assert chunks[-1].usage.completion_tokens > 3
    equal(1, len({c.id for c in chunks}))
    texts = {}
    for chunk in ask(say("two"), stream=True, n=2):
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
    equal({0: "two", 1: "two"}, texts)
    with client.chat.completions.stream(model="tiny", messages=user(say("helper")), logprobs=True) as stream:
        names = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "content.delta" in names and "content.done" in names and "logprobs.content.done" in names, names
    equal("helper", final.choices[0].message.content)


def check_tool_loop(stream):
    question = call("get_weather", city="Köln", days=2) + call("get_weather", city="Rom")
    messages = user(say(question))
    if stream:
        with client.chat.completions.stream(model="tiny", messages=messages, tools=TOOLS) as events:
            for event in events:
                pass
            choice = events.get_final_completion().choices[0]
    else:
        choice = client.chat.completions.create(model="tiny", messages=messages, tools=TOOLS).choices[0]
    equal("tool_calls", choice.finish_reason)
    calls = choice.message.tool_calls
    equal(["get_weather"] * 2, [c.function.name for c in calls])
    equal([{"city": "Köln", "days": 2}, {"city": "Rom"}], [json.loads(c.function.arguments) for c in calls])
    assert calls[0].id and calls[0].id != calls[1].id
    messages.append(choice.message.model_dump(exclude_none=True) if stream else choice.message)
    for c in calls:
        messages.append({"role": "tool", "tool_call_id": c.id, "content": say("21 °C in both.")})
    answer = client.chat.completions.create(model="tiny", messages=messages, tools=TOOLS)
    equal("21 °C in both.", answer.choices[0].message.content)
    equal("stop", answer.choices[0].finish_reason)


def check_completions():
    answer = client.completions.create(model="tiny", prompt=[say("one"), say("two")], max_tokens=50)
    equal(["one", "two"], [c.text for c in answer.choices])
    answer = client.completions.create(model="tiny", prompt=say("x"), echo=True, max_tokens=50)
    equal(say("x") + "x", answer.choices[0].text)
    answer = client.completions.create(model="tiny", prompt=say("xyz"), logprobs=2, max_tokens=50)
    logprobs = answer.choices[0].logprobs
    equal("xyz", "".join(logprobs.tokens)[:3])
    equal(len(logprobs.tokens), len(logprobs.token_logprobs))
    e = raises(openai.BadRequestError, 400, lambda: client.completions.create(
        model="tiny", prompt="x", echo=True, logprobs=2))
    equal("logprobs", e.param)
    ids = [72, 73]
    assert client.completions.create(model="tiny", prompt=ids, max_tokens=3).usage.prompt_tokens >= 2
    parts = client.completions.create(model="tiny", prompt=say("stream"), stream=True, max_tokens=50)
    equal("stream", "".join(c.choices[0].text for c in parts if c.choices))
    text = client.completions.create(model="tiny", prompt=say("xyz"), suffix=None, best_of=1, max_tokens=50)
    equal("xyz", text.choices[0].text)


def check_responses():
    answer = client.responses.create(model="tiny", input=say("Hello, wörld!"), instructions="Be kind.", store=False)
    equal(("Hello, wörld!", "completed"), (answer.output_text, answer.status))
    assert answer.usage.output_tokens > 3
    with client.responses.stream(model="tiny", input=say("<think>Hm.</think>Hello!")) as stream:
        text = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
        final = stream.get_final_response()
    equal(("Hello!", "Hello!"), (text, final.output_text))
    equal(["reasoning", "message"], [item.type for item in final.output])
    flat = [{"type": "function", **WEATHER}]
    asked = [{"role": "user", "content": say(call("get_weather", city="Rom"))}]
    answer = client.responses.create(model="tiny", input=asked, tools=flat)
    (item,) = answer.output
    equal(("function_call", "get_weather", {"city": "Rom"}), (item.type, item.name, json.loads(item.arguments)))
    asked += [item, {"type": "function_call_output", "call_id": item.call_id, "output": say("Sun.")}]
    equal("Sun.", client.responses.create(model="tiny", input=asked, tools=flat).output_text)


def check_models():
    equal(["tiny"], [m.id for m in client.models.list()])
    equal("tiny", client.models.retrieve("tiny").id)


def check_errors():
    e = raises(openai.BadRequestError, 400, lambda: ask("x", temperature=7))
    equal("temperature", e.param)
    assert "temperature" in e.message and e.request_id, e.message
    e = raises(openai.BadRequestError, 400, lambda: client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]))
    assert "image" in e.message, e.message
    e = raises(openai.BadRequestError, 400, lambda: ask("a " * 5000))
    equal("context_length_exceeded", e.code)
    raises(openai.NotFoundError, 404, lambda: client.embeddings.create(model="tiny", input="x"))
    raises(openai.APIStatusError, 413, lambda: ask("a" * (11 << 20)))
    wrong = openai.OpenAI(base_url=url(STRICT), api_key="wrong")
    e = raises(openai.AuthenticationError, 401,
               lambda: wrong.chat.completions.create(model="tiny", messages=user("x")))
    right = wrong.with_options(api_key="secret")
    equal("yes", right.chat.completions.create(model="tiny", messages=user(say("yes"))).choices[0].message.content)
    e = raises(openai.NotFoundError, 404,
               lambda: right.chat.completions.create(model="gpt-5", messages=user("x")))
    equal("model_not_found", e.code)
    equal("model", e.param)


def check_raw():
    raw = client.chat.completions.with_raw_response.create(
        model="tiny", messages=user(say("raw")), extra_headers={"X-Request-Id": "my-request"})
    equal("my-request", raw.headers["x-request-id"])
    equal("my-request", raw.parse()._request_id)
    assert ask(say("x"))._request_id
    with client.chat.completions.with_streaming_response.create(
            model="tiny", messages=user(say("raw")), stream=True) as raw:
        assert raw.headers["content-type"].startswith("text/event-stream")
        equal("data: [DONE]", [line for line in raw.iter_lines() if line][-1])


def open_long(slow):
    """A stream that would go on for 80 s, of which the first token has come."""
    stream = slow.chat.completions.create(model="tiny", messages=user("long"), stream=True)
    for chunk in stream:
        if chunk.choices[0].delta.content:
            return stream


def check_full_and_gone():
    """The slow worker is taken: 429, retried by the client; closing a stream frees it."""
    slow = openai.OpenAI(base_url=url(SLOW), api_key="none", max_retries=0)
    before = outcome(SLOW, "cancelled")
    stream = open_long(slow)
    e = raises(openai.RateLimitError, 429,
               lambda: slow.chat.completions.create(model="tiny", messages=user(say("x"))))
    equal("1", e.response.headers["retry-after"])
    stream.close()
    await_idle(SLOW)
    equal(before + 1, outcome(SLOW, "cancelled"))
    with open_long(slow):
        pass
    await_idle(SLOW)
    # A client that stops waiting: the job ends with it.
    before = outcome(SLOW, "cancelled")
    hasty = slow.with_options(timeout=0.3)
    raises(openai.APITimeoutError, None, lambda: hasty.chat.completions.create(model="tiny", messages=user("x")))
    await_idle(SLOW)
    equal(before + 1, outcome(SLOW, "cancelled"))


async def check_async():
    many = openai.AsyncOpenAI(base_url=url(QUICK), api_key="none")

    async def one(i):
        answer = await many.chat.completions.create(model="tiny", messages=user(say(f"number {i}")))
        return answer.choices[0].message.content

    async def streamed(i):
        text = ""
        stream = await many.chat.completions.create(model="tiny", messages=user(say(f"stream {i}")), stream=True)
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
        return text

    texts = await asyncio.gather(*[f(i) for i in range(16) for f in (one, streamed)])
    equal([f"{kind} {i}" for i in range(16) for kind in ("number", "stream")], texts)

    # A job of the slow worker holds its only place; a request that is told 429 comes again by itself.
    slow = openai.AsyncOpenAI(base_url=url(SLOW), api_key="none", max_retries=8)
    rejected = outcome(SLOW, "rejected")
    stream = await slow.chat.completions.create(model="tiny", messages=user("long"), stream=True)
    waiting = asyncio.create_task(slow.chat.completions.create(model="tiny", messages=user(say("x"))))
    while outcome(SLOW, "rejected") == rejected:
        await asyncio.sleep(0.02)
    await stream.close()
    equal("x", (await waiting).choices[0].message.content)
    # A task that is cancelled takes its job with it.
    cancelled = outcome(SLOW, "cancelled")
    task = asyncio.create_task(slow.chat.completions.create(model="tiny", messages=user("long")))
    while metric(SLOW, "worker_jobs_active") == 0:
        await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.to_thread(await_idle, SLOW)
    equal(cancelled + 1, outcome(SLOW, "cancelled"))


check_chat()
check_chat_stream()
check_tool_loop(stream=False)
check_tool_loop(stream=True)
check_completions()
check_responses()
check_models()
check_errors()
check_raw()
check_full_and_gone()
asyncio.run(check_async())
print("openai", openai.__version__)
