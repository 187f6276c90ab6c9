"""LiteLLM as a package and as a proxy in front of a worker. Arguments: the ports of the quick, the slow and the
strict worker."""
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import urllib.request

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm
import openai
from common import WEATHER, await_idle, await_true, call, equal, get, metric, raises, say

litellm.suppress_debug_info = True
QUICK, SLOW, STRICT = map(int, sys.argv[1:4])
TOOLS = [{"type": "function", "function": WEATHER}]


def url(port):
    return f"http://127.0.0.1:{port}/v1"


def check_provider(provider):
    root = {"anthropic": lambda port: url(port).removesuffix("/v1")}.get(provider, url)
    base = dict(model=f"{provider}/tiny", api_base=root(QUICK), api_key="none", num_retries=0)

    def ask(text, **more):
        return litellm.completion(messages=[{"role": "user", "content": text}], **(base | more))

    answer = ask(say("Hello."), temperature=0.5, max_tokens=50)
    equal("Hello.", answer.choices[0].message.content)
    assert answer.usage.completion_tokens > 0
    chunks = list(ask(say("Hello, wörld!"), stream=True, stream_options={"include_usage": True}))
    equal("Hello, wörld!", "".join(c.choices[0].delta.content or "" for c in chunks if c.choices))
    assert [c for c in chunks if getattr(c, "usage", None)]
    answer = ask(say("<think>Hm.</think>Yes."))
    equal("Hm.", answer.choices[0].message.reasoning_content)
    choice = ask(say(call("get_weather", city="Rom")), tools=TOOLS, tool_choice="auto").choices[0]
    equal("tool_calls", choice.finish_reason)
    equal({"city": "Rom"}, json.loads(choice.message.tool_calls[0].function.arguments))
    raises(litellm.BadRequestError, 400, lambda: ask("x", temperature=7))
    raises(litellm.ContextWindowExceededError, 400, lambda: ask("a " * 5000))
    raises(litellm.AuthenticationError, 401, lambda: ask("x", api_base=root(STRICT)))
    answer = asyncio.run(litellm.acompletion(messages=[{"role": "user", "content": say("async")}], **base))
    equal("async", answer.choices[0].message.content)


def check_full():
    """What is told 429 is a rate limit for LiteLLM, which tries again."""
    slow = openai.OpenAI(base_url=url(SLOW), api_key="none", max_retries=0)
    stream = slow.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "long"}], stream=True)
    ask = dict(model="hosted_vllm/tiny", api_base=url(SLOW), api_key="none",
               messages=[{"role": "user", "content": "x"}])
    raises(litellm.RateLimitError, 429, lambda: litellm.completion(num_retries=0, max_retries=0, **ask))
    stream.close()
    await_idle(SLOW)


class Proxy:
    """A LiteLLM proxy, starting."""

    def __init__(self, folder):
        self.port = free_port()
        config = os.path.join(folder, "litellm.yaml")
        with open(config, "w") as file:
            json.dump({"model_list": [
                {"model_name": "tiny", "litellm_params": {"model": "hosted_vllm/tiny", "api_base": url(QUICK)}},
                {"model_name": "other", "litellm_params": {
                    "model": "openai/tiny", "api_base": url(STRICT), "api_key": "secret"}},
            ], "general_settings": {"master_key": "sk-test"}}, file)
        self.log = open(os.path.join(folder, "litellm.log"), "w+")
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from litellm import run_server; run_server()", "--config", config, "--host",
             "127.0.0.1", "--port", str(self.port)], stdout=self.log, stderr=self.log, cwd=folder)

    def is_ready(self):
        if self.process.poll() is not None:
            self.log.seek(0)
            raise AssertionError(self.log.read()[-5000:])
        try:
            return get(self.port, "/health/liveliness")[0] == 200
        except OSError:
            return False

    def stop(self):
        self.process.kill()
        self.process.wait()


def free_port():
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def check_proxy(proxy):
    await_true("the proxy is ready", proxy.is_ready, 150)
    request = urllib.request.Request(f"http://127.0.0.1:{proxy.port}/health",
                                     headers={"Authorization": "Bearer sk-test"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        found = json.loads(answer.read())
    equal((2, 0), (found["healthy_count"], found["unhealthy_count"]))
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{proxy.port}/v1", api_key="sk-test", timeout=120)
    equal({"tiny", "other"}, {m.id for m in client.models.list()})
    for model in "tiny", "other":
        def ask(text, **more):
            return client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}], **more)

        equal("Hello.", ask(say("Hello.")).choices[0].message.content)
        chunks = ask(say("Hello, wörld!"), stream=True)
        equal("Hello, wörld!", "".join(c.choices[0].delta.content or "" for c in chunks if c.choices))
        calls = ask(say(call("get_weather", city="Rom")), tools=TOOLS).choices[0].message.tool_calls
        equal(["get_weather"], [c.function.name for c in calls])
        raises(openai.BadRequestError, 400, lambda: ask("x", temperature=7))


with tempfile.TemporaryDirectory() as folder:
    proxy = Proxy(folder)  # it takes long: the package is asked meanwhile
    try:
        for provider in "openai", "hosted_vllm", "anthropic":
            check_provider(provider)
        check_full()
        check_proxy(proxy)
    finally:
        proxy.stop()
assert metric(QUICK, 'worker_requests_total{outcome="error"}') == 0
