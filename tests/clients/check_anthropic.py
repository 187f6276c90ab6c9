"""The anthropic package, sync and async. Arguments: the ports of the quick, the slow and the strict worker."""
import asyncio
import sys

import anthropic
from common import WEATHER, await_idle, call, equal, metric, outcome, raises, say

QUICK, SLOW, STRICT = map(int, sys.argv[1:4])
TOOLS = [{"name": "get_weather", "description": WEATHER["description"], "input_schema": WEATHER["parameters"]}]


def url(port):
    return f"http://127.0.0.1:{port}"


client = anthropic.Anthropic(base_url=url(QUICK), api_key="none")


def user(text):
    return [{"role": "user", "content": text}]


def ask(text, of=client, **more):
    return of.messages.create(**(dict(model="tiny", max_tokens=200, messages=user(text)) | more))


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


def tokens_in(usage):
    return usage.input_tokens + usage.cache_read_input_tokens


def check_messages():
    answer = ask(say("Hello, wörld!"), system="Be kind.")
    equal("Hello, wörld!", text_of(answer))
    equal(("end_turn", "assistant", "message"), (answer.stop_reason, answer.role, answer.type))
    assert tokens_in(answer.usage) > 5 and answer.usage.output_tokens > 3 and answer._request_id
    equal("max_tokens", ask(say("a b c d e f"), max_tokens=2).stop_reason)
    answer = ask(say("abcEND def"), stop_sequences=["END"])
    equal(("abc", "stop_sequence", "END"), (text_of(answer), answer.stop_reason, answer.stop_sequence))
    answer = ask(say("<think>Let me see.</think>It is 4."), thinking={"type": "enabled", "budget_tokens": 1024},
                 max_tokens=2000)
    equal(["thinking", "text"], [block.type for block in answer.content])
    equal(("Let me see.", "It is 4."), (answer.content[0].thinking, text_of(answer)))
    blocks = [{"type": "text", "text": "Please. ", "cache_control": {"type": "ephemeral"}},
              {"type": "text", "text": "[say]parts[/say]"}]
    system = [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}]
    equal("parts", text_of(ask(blocks, system=system, metadata={"user_id": "x"},
                             extra_body={"temperature": 0.5, "top_p": 0.9, "top_k": 40})))
    counted = client.messages.count_tokens(model="tiny", messages=user(say("x")), system="Be kind.")
    equal(tokens_in(ask(say("x"), system="Be kind.").usage), counted.input_tokens)


def check_stream():
    with client.messages.stream(model="tiny", max_tokens=200, messages=user(say("Hello, wörld!"))) as stream:
        equal("Hello, wörld!", "".join(stream.text_stream))
        final = stream.get_final_message()
    equal(("Hello, wörld!", "end_turn"), (text_of(final), final.stop_reason))
    assert final.usage.output_tokens > 3 and tokens_in(final.usage) > 5
    names = [e.type for e in ask(say("x"), stream=True)]
    equal(["message_start", "content_block_start"], [n for n in names if n != "ping"][:2])
    equal(["content_block_stop", "message_delta", "message_stop"], names[-3:])
    with client.messages.stream(model="tiny", max_tokens=2000, messages=user(say("<think>Hm.</think>Yes.")),
                                thinking={"type": "enabled", "budget_tokens": 1024}) as stream:
        thought = "".join(e.thinking for e in stream if e.type == "thinking")
        equal(["thinking", "text"], [b.type for b in stream.get_final_message().content])
    equal("Hm.", thought)


def check_tool_loop(streamed):
    messages = user(say("Let me look." + call("get_weather", city="Köln", days=2) + call("get_weather", city="Rom")))
    request = dict(model="tiny", max_tokens=200, tools=TOOLS)
    if streamed:
        with client.messages.stream(messages=messages, **request) as stream:
            answer = stream.get_final_message()
    else:
        answer = client.messages.create(messages=messages, **request)
    equal("tool_use", answer.stop_reason)
    equal("Let me look.", text_of(answer))
    uses = [b for b in answer.content if b.type == "tool_use"]
    equal([("get_weather", {"city": "Köln", "days": 2}), ("get_weather", {"city": "Rom"})],
          [(b.name, b.input) for b in uses])
    messages += [{"role": "assistant", "content": answer.content},
                 {"role": "user", "content": [{"type": "tool_result", "tool_use_id": b.id,
                                               "content": say("21 °C in both.")} for b in uses]}]
    equal("21 °C in both.", text_of(client.messages.create(messages=messages, **request)))


def check_errors():
    e = raises(anthropic.BadRequestError, 400, lambda: ask("x", extra_body={"temperature": 7}))
    equal("invalid_request_error", e.body["error"]["type"])
    assert "temperature" in e.message and e.request_id, e.message
    e = raises(anthropic.BadRequestError, 400, lambda: ask("a " * 5000))
    assert "prompt is too long" in e.message, e.message
    raises(anthropic.APIStatusError, 413, lambda: ask("a" * (11 << 20)))
    wrong = anthropic.Anthropic(base_url=url(STRICT), api_key="wrong")
    raises(anthropic.AuthenticationError, 401, lambda: ask("x", wrong))
    right = anthropic.Anthropic(base_url=url(STRICT), api_key="secret")
    equal("yes", text_of(ask(say("yes"), right)))
    equal("yes", text_of(ask(say("yes"), anthropic.Anthropic(base_url=url(STRICT), auth_token="secret", api_key=None))))
    e = raises(anthropic.NotFoundError, 404, lambda: ask("x", right, model="claude"))
    equal("not_found_error", e.body["error"]["type"])
    raw = client.messages.with_raw_response.create(model="tiny", max_tokens=20, messages=user(say("raw")))
    assert raw.headers["request-id"] and raw.parse().id


def check_full_and_gone():
    slow = anthropic.Anthropic(base_url=url(SLOW), api_key="none", max_retries=0)
    before = outcome(SLOW, "cancelled")
    with slow.messages.stream(model="tiny", max_tokens=2000, messages=user("long")) as stream:
        next(iter(stream.text_stream))
        e = raises(anthropic.RateLimitError, 429, lambda: ask(say("x"), slow))
        equal("1", e.response.headers["retry-after"])
    await_idle(SLOW)
    equal(before + 1, outcome(SLOW, "cancelled"))
    raises(anthropic.APITimeoutError, None, lambda: ask("x", slow.with_options(timeout=0.3), max_tokens=2000))
    await_idle(SLOW)
    equal(before + 2, outcome(SLOW, "cancelled"))


async def check_async():
    many = anthropic.AsyncAnthropic(base_url=url(QUICK), api_key="none")

    async def one(i):
        return text_of(await ask(say(f"number {i}"), many))

    async def streamed(i):
        async with many.messages.stream(model="tiny", max_tokens=200, messages=user(say(f"stream {i}"))) as stream:
            return "".join([text async for text in stream.text_stream])

    texts = await asyncio.gather(*[f(i) for i in range(16) for f in (one, streamed)])
    equal([f"{kind} {i}" for i in range(16) for kind in ("number", "stream")], texts)
    slow = anthropic.AsyncAnthropic(base_url=url(SLOW), api_key="none", max_retries=0)
    cancelled = outcome(SLOW, "cancelled")
    task = asyncio.create_task(ask("long", slow, max_tokens=2000))
    while metric(SLOW, "worker_jobs_active") == 0:
        await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.to_thread(await_idle, SLOW)
    equal(cancelled + 1, outcome(SLOW, "cancelled"))


check_messages()
check_stream()
check_tool_loop(False)
check_tool_loop(True)
check_errors()
check_full_and_gone()
asyncio.run(check_async())
equal(["tiny"], [m.id for m in client.models.list()])
equal("tiny", client.models.retrieve("tiny").id)
