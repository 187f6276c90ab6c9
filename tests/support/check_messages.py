"""Asks a worker whose answers are always <think>Hm.</think>See and two calls of `look`, and checks every event and
answer of POST /v1/messages with the models of the Anthropic client. Argument: the port."""
import http.client
import json
import sys

import anthropic
import pydantic
from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent

port = int(sys.argv[1])
any_event = pydantic.TypeAdapter(RawMessageStreamEvent)
tools = [dict(name="look", input_schema=dict(type="object"))]
request = dict(model="tiny", max_tokens=1000, messages=[dict(role="user", content="hi")], tools=tools, system="Be kind.")


def post(body, path="/v1/messages"):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read().decode()
    assert answer.status == 200 and answer.headers["request-id"], text
    return text


def events_of(text):
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if not lines:
            continue
        name, data = lines
        assert name.startswith("event: ") and data.startswith("data: "), block
        data = json.loads(data[6:])
        assert name[7:] == data["type"], block
        yield data


def check_stream(body):
    """The message that the events make, its inputs as the text that came."""
    message, is_open, stopped = None, False, False
    for event in events_of(post(body | {"stream": True})):
        kind = event["type"]
        assert not stopped, event
        if kind == "ping":  # no model has it; clients pass over it
            assert event == {"type": "ping"}
            continue
        assert any_event.validate_python(event).type == kind
        if kind == "message_start":
            assert message is None
            message = event["message"]
            assert message["content"] == [] and message["stop_reason"] is None
        elif kind == "content_block_start":
            assert not is_open and event["index"] == len(message["content"]), event
            is_open = True
            message["content"].append(event["content_block"])
            if event["content_block"]["type"] == "tool_use":
                assert event["content_block"]["input"] == {}
                event["content_block"]["input"] = ""
        elif kind == "content_block_delta":
            block, delta = message["content"][-1], event["delta"]
            assert is_open and event["index"] == len(message["content"]) - 1, event
            key, into = dict(text_delta=("text", "text"), thinking_delta=("thinking", "thinking"),
                             signature_delta=("signature", "signature"),
                             input_json_delta=("partial_json", "input"))[delta["type"]]
            block[into] += delta[key]
        elif kind == "content_block_stop":
            assert is_open and event["index"] == len(message["content"]) - 1, event
            is_open = False
        elif kind == "message_delta":
            assert not is_open
            message.update(event["delta"], usage=event["usage"])
        elif kind == "message_stop":
            stopped = True
    assert stopped
    return message


lengths, reasons = 0, set()
for limit in range(1, 1000):
    body = request | {"max_tokens": limit}
    whole = json.loads(post(body))
    Message.model_validate(whole)
    streamed = check_stream(body)
    assert len(whole["content"]) == len(streamed["content"])
    for a, b in zip(whole["content"], streamed["content"]):
        if a["type"] == "text" and b["type"] == "tool_use":  # it broke off
            assert a["text"] == b["name"] + " " + b["input"] and whole["stop_reason"] == "max_tokens"
        elif a["type"] == "tool_use":
            assert (a["name"], a["input"]) == (b["name"], json.loads(b["input"])) and len(a["id"]) == 9
        else:
            assert a == b, (a, b)
    for answer in whole, streamed:  # what came from the cache is another request's doing
        answer["usage"]["input_tokens"] += answer["usage"].pop("cache_read_input_tokens")
    for key in "role", "model", "stop_reason", "stop_sequence", "usage":
        assert whole[key] == streamed[key], (key, whole, streamed)
    assert whole["usage"]["output_tokens"] == min(limit, whole["usage"]["output_tokens"])
    reasons.add(whole["stop_reason"])
    if whole["stop_reason"] != "max_tokens":
        break
else:
    sys.exit("the answer never ended")
assert limit > 30 and reasons == {"max_tokens", "tool_use"}, (limit, reasons)
assert [b["type"] for b in whole["content"]] == ["thinking", "text", "tool_use", "tool_use"]

client = anthropic.Anthropic(base_url=f"http://127.0.0.1:{port}", api_key="none")
message = client.messages.create(**request)
assert message.content[1].text == "See" and message._request_id and message.stop_reason == "tool_use"
assert client.beta.messages.create(**request, betas=["some-beta-2025-01-01"]).content[1].text == "See"
for cut in 1000, 45, 30:  # within calls and between them
    with client.messages.stream(**request | {"max_tokens": cut}) as stream:
        said = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert "See" in said and final.usage.output_tokens <= cut
    if cut == 1000:
        assert [b.input for b in final.content[2:]] == [{"a": [1, 2]}, {}]
assert client.messages.count_tokens(model="tiny", messages=request["messages"], system="Be kind.", tools=tools
                                    ).input_tokens == message.usage.input_tokens + message.usage.cache_read_input_tokens
MessageTokensCount.model_validate(json.loads(post(request, "/v1/messages/count_tokens")))
# What came goes back.
results = [dict(type="tool_result", tool_use_id=b.id, content="3") for b in message.content[2:]]
again = request["messages"] + [dict(role="assistant", content=message.content), dict(role="user", content=results)]
assert client.messages.create(**request | {"messages": again}).content[1].text == "See"
try:
    client.messages.create(**request | {"tool_choice": {"type": "tool", "name": "jump"}})
    sys.exit("a call of a tool that is not there was forced")
except anthropic.BadRequestError as e:
    assert e.body["error"]["field"] == "tool_choice" and e.request_id, e.body
print(f"{limit} lengths")
