"""Asks a worker whose answers are always <think>Hm.</think>See and two calls of `look`, and checks every event and
answer of POST /v1/responses with the models of the OpenAI client. Argument: the port."""
import http.client
import json
import sys

import openai
import pydantic
from openai.types.responses import Response, ResponseStreamEvent

port = int(sys.argv[1])
any_event = pydantic.TypeAdapter(ResponseStreamEvent)
tools = [dict(type="function", name="look", parameters=dict(type="object"))]
request = dict(model="tiny", input="hi", tools=tools, include=["message.output_text.logprobs"], top_logprobs=2,
               metadata={"a": "b"}, instructions="Be kind.", reasoning={"effort": "low"})


def post(body):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/v1/responses", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read().decode()
    assert answer.status == 200, text
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


def same(output):
    """Without what differs from answer to answer, and what only whole answers say."""
    output = json.loads(json.dumps(output))
    for item in output:
        item.pop("id"), item.pop("call_id", None)
        for part in item.get("content", []):
            part.pop("logprobs", None)
    return output


def check_stream(body):
    """The final response, after a look at all that led to it."""
    items, texts, open_item = [], {}, None
    for number, event in enumerate(events_of(post(body | {"stream": True}))):
        model = any_event.validate_python(event)
        assert model.type == event["type"] and event["sequence_number"] == number, event
        kind, index = event["type"].removeprefix("response."), event.get("output_index")
        if "item_id" in event:
            assert event["item_id"] == open_item["id"] and index == len(items), event
        if kind == "output_item.added":
            assert open_item is None and index == len(items), event
            open_item = event["item"]
        elif kind.endswith(".delta"):
            texts[index] = texts.get(index, "") + event["delta"]
        elif kind.endswith("_text.done"):
            assert event["text"] == texts[index], event
        elif kind == "function_call_arguments.done":
            assert event["arguments"] == texts.get(index, ""), event
        elif kind == "content_part.done":
            assert event["part"]["text"] == texts[index], event
        elif kind == "output_item.done":
            assert event["item"]["id"] == open_item["id"], event
            items.append(event["item"])
            open_item = None
        last = event
    assert last["type"] in ("response.completed", "response.incomplete"), last
    assert last["type"] == "response." + last["response"]["status"]
    final = last["response"]
    assert [i["id"] for i in items] == [i["id"] for i in final["output"]] and same(items) == same(final["output"])
    return final


lengths, kinds = 0, set()
for limit in range(1, 1000):
    body = request | {"max_output_tokens": limit}
    whole = json.loads(post(body))
    Response.model_validate(whole)
    streamed = check_stream(body)
    assert same(whole["output"]) == same(streamed["output"]), limit
    for response in whole, streamed:
        assert response["instructions"] == "Be kind." and response["metadata"] == {"a": "b"}
        assert response["tools"] == tools and response["reasoning"]["effort"] == "low"
        for index, item in enumerate(response["output"]):
            kinds.add((item["type"], item["status"]))
            if item["type"] == "message":
                part, = item["content"]
                tokens = "".join(t["token"] for t in part["logprobs"])
                # Behind a call the first may be those that closed it.
                assert tokens == part["text"] if index < 2 else tokens.endswith(part["text"]), part
                assert all(len(t["top_logprobs"]) == 2 for t in part["logprobs"])
            if item["type"] == "function_call" and item["status"] == "completed":
                assert json.loads(item["arguments"]) in ({"a": [1, 2]}, {})
    for answer in whole, streamed:  # what came from the cache is another request's doing
        assert answer["usage"]["input_tokens_details"].pop("cached_tokens") < answer["usage"]["input_tokens"]
    assert whole["usage"] == streamed["usage"]
    assert whole["usage"]["output_tokens"] == min(limit, whole["usage"]["output_tokens"])
    if whole["status"] == "completed":
        break
    assert whole["incomplete_details"] == {"reason": "max_output_tokens"}
else:
    sys.exit("the answer never ended")
assert limit > 30, limit
assert kinds == {(t, s) for t in ("reasoning", "message", "function_call") for s in ("completed", "incomplete")}, kinds
assert [i["type"] for i in whole["output"]] == ["reasoning", "message", "function_call", "function_call"]
assert whole["usage"]["output_tokens_details"]["reasoning_tokens"] > 0

client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
response = client.responses.create(**request)
assert response.output_text == "See" and response.id.startswith("resp_")
with client.responses.stream(**request) as stream:
    said = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
    final = stream.get_final_response()
assert said == final.output_text == "See"
calls = [item for item in final.output if item.type == "function_call"]
assert [c.arguments for c in calls] == ['{"a":[1,2]}', "{}"] and calls[0].call_id != calls[1].call_id
# What came goes back.
again = [{"role": "user", "content": "hi"}] + [item.model_dump(exclude={"parsed_arguments"}) for item in response.output]
again += [dict(type="function_call_output", call_id=c.call_id, output="3") for c in response.output[2:]]
assert client.responses.create(**request | {"input": again}).output_text == "See"
try:
    client.responses.create(model="tiny", input="hi", previous_response_id="resp_1")
    sys.exit("previous_response_id was taken")
except openai.BadRequestError as e:
    assert e.param == "previous_response_id", e
print(f"{limit} lengths")
