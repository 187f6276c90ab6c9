"""LangChain's ChatOpenAI and ChatAnthropic. Arguments: the ports of the quick, the slow and the strict worker."""
import asyncio
import sys

from common import call, equal, say
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

QUICK = int(sys.argv[1])


@tool
def get_weather(city: str, days: int = 1) -> str:
    """The weather of a city."""
    return say(f"In {city}: sun for {days} days.")


def check_model(model):
    answer = model.invoke([SystemMessage("Be kind."), HumanMessage(say("Hello."))])
    equal("Hello.", answer.text)
    assert answer.usage_metadata["input_tokens"] > 0 and answer.usage_metadata["output_tokens"] > 0
    chunks = list(model.stream(say("Hello, wörld!")))
    equal("Hello, wörld!", "".join(chunk.text for chunk in chunks))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.usage_metadata["output_tokens"] > 0, whole
    equal(["one", "two"], [a.text for a in model.batch([say("one"), say("two")])])
    equal("async", asyncio.run(model.ainvoke(say("async"))).text)

    # A loop with a tool, the first answer whole and streamed.
    with_tools = model.bind_tools([get_weather])
    for streamed in (False, True):
        messages = [HumanMessage(say("Let me look." + call("get_weather", city="Köln", days=2)))]
        answer = with_tools.invoke(messages)
        if streamed:
            answer = None
            for chunk in with_tools.stream(messages):
                answer = chunk if answer is None else answer + chunk
        equal([("get_weather", {"city": "Köln", "days": 2})], [(c["name"], c["args"]) for c in answer.tool_calls])
        equal("Let me look.", answer.text)
        messages.append(answer)
        for c in answer.tool_calls:
            result = get_weather.invoke(c)
            assert isinstance(result, ToolMessage)
            messages.append(result)
        equal("In Köln: sun for 2 days.", with_tools.invoke(messages).text)


check_model(ChatOpenAI(model="tiny", base_url=f"http://127.0.0.1:{QUICK}/v1", api_key="none", stream_usage=True))
check_model(ChatAnthropic(model="tiny", base_url=f"http://127.0.0.1:{QUICK}", api_key="none", max_tokens=200))
