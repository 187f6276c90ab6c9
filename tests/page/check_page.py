"""Drives the page at / in a real headless Chromium.

    python3 tests/page/check_page.py http://127.0.0.1:PORT [--screenshots FOLDER] [CHECK ...]

The address is a worker's: its page is served by mock_worker.py, which writes the answers. Each function below
whose name begins with check_ is a check; the last line says how many held. Whatever a check does, the page
must ask no other origin for anything, break no rule of its Content-Security-Policy and raise no error.
"""

import argparse
import ast
import json
import pathlib
import re
import subprocess
import sys
import traceback

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

import markdown_oracle
from mock_worker import ANSWERS, MARKDOWN, MockWorker

PATIENCE_MS = 60_000  # the machine may be busy
expect.set_options(timeout=PATIENCE_MS)

WATCH = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
"""


class Page:
    """A browser page at a mock, and what it did."""

    def __init__(self, browser, worker, width=1440, height=900, theme="light", touch=False, storage=None, at_worker=False,
                 own_clock=False):
        self.mock = MockWorker(worker)
        url = worker if at_worker else self.mock.url
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=theme, has_touch=touch, is_mobile=touch,
            reduced_motion="reduce", permissions=["clipboard-read", "clipboard-write"])
        self.context.set_default_timeout(PATIENCE_MS)
        self.context.add_init_script(WATCH)
        if storage is not None:
            value = json.dumps(json.dumps(storage))
            self.context.add_init_script(
                f"sessionStorage.seeded ??= (sessionStorage.setItem('worker-orcd.tab', {value}), 1)")
        self.errors, self.foreign = [], []
        self.page = self.context.new_page()
        if own_clock:  # which check moves
            self.page.clock.install()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: message.type == "error" and
                     "Failed to load resource" not in message.text and self.errors.append(message.text))
        self.page.on("request", lambda request: request.url.startswith((url + "/", "data:")) or
                     self.foreign.append(request.url))
        self.page.on("dialog", lambda dialog: (self.errors.append("a dialog"), dialog.dismiss()))
        self.context.on("page", lambda page: self.errors.append(f"opened {page.url}") if page != self.page else None)
        self.page.goto(url)
        if not at_worker:
            expect(self.page.locator("#status-text")).to_have_text("ready")

    def close(self):
        assert self.page.evaluate("violations") == [], self.page.evaluate("violations")
        assert self.page.evaluate("window.ran") is None, self.page.evaluate("window.ran")
        assert self.errors == [], self.errors
        assert self.foreign == [], self.foreign
        self.context.close()
        self.mock.server.shutdown()

    def __getattr__(self, name):
        return getattr(self.page, name)

    def start(self, text):
        self.fill("#draft", text)
        self.press("#draft", "Enter")

    def say(self, text):
        """Sends and waits for the end of the answer; the last article."""
        self.start(text)
        return self.wait_answer()

    def wait_answer(self):
        expect(self.locator("#send")).to_have_attribute("aria-label", "Send")
        return self.locator("article.answer").last


def check_send_and_stream(open_page):
    p = open_page()
    expect(p.locator("#welcome")).to_be_visible()
    p.start("slow")
    expect(p.locator("article.answer")).to_contain_text("long1")  # before its end
    expect(p.locator("#send")).to_have_attribute("aria-label", "Stop")
    p.click("#send")
    answer = p.wait_answer()
    expect(answer).to_contain_text("Stopped.")
    answer = p.say("Hello")
    expect(answer.locator(".markdown").last).to_have_text("Hello! How can I help?")
    assert re.fullmatch(r"4 tokens( · [\d.,]+ a second)? · first after [\d.]+ m?s", answer.locator(".note").inner_text())
    expect(p.locator("#welcome")).to_be_hidden()
    request = p.mock.requests[-1]
    assert request["model"] == "qwen3-4b-instruct" and request["stream"] is True
    assert request["stream_options"] == {"include_usage": True}
    roles = [m["role"] for m in request["messages"]]
    assert roles == ["user", "assistant", "user"], roles
    assert request["messages"][1]["content"].startswith("This takes long0")
    assert sorted(request) == ["messages", "model", "stream", "stream_options"], request
    expect(p.locator("#announcer")).to_have_text("Answer: Hello! How can I help?")
    # What the worker says of its time goes before what the page saw.
    expect(p.say("timed").locator(".note")).to_have_text("1 token · 41.3 a second · first after 2.1 s · 2.1 s in the queue")
    expect(p.say("nothing")).to_contain_text("The model ended at once.")


def check_with_the_worker_itself(open_page):
    """Its answers are a few random tokens; what counts is that both sides understand each other."""
    p = open_page(at_worker=True)
    expect(p.locator("#status-text")).to_have_text("ready")
    p.click("#panel-toggle")
    p.fill("[name=max_tokens]", "6")
    p.fill("[name=temperature]", "0")
    p.fill("[name=stop]", "never said")
    answer = p.say("Hello")
    expect(answer.locator(".note")).to_have_text(
        re.compile(r"^Ended at the limit of tokens\. 6 tokens( · [\d.,]+ a second)? · first after [\d.]+ m?s"))
    assert answer.locator(".markdown").last.inner_text() != ""
    p.say("And again")  # with the first answer in the conversation
    expect(p.locator(".problem:visible")).to_have_count(0)
    p.click("#tools-tab")
    p.click("#tools-example")
    p.say("And with tools")
    p.click("#worker-tab")
    expect(p.locator("#facts")).to_contain_text("CPU")
    for title in "Jobs and queue", "Tokens", "First token", "Whole answers":
        expect(p.locator(".chart-title").get_by_text(title, exact=True)).to_be_visible()
    p.click("#settings-tab")
    p.fill("[name=temperature]", "2")
    p.fill("[name=top_k]", "999999")
    expect(p.say("Hello").locator(".problem")).to_contain_text("The worker cannot use this request: ")


def check_stop_reaches_the_worker(open_page):
    p = open_page()
    p.start("slow")
    expect(p.locator("article.answer")).to_contain_text("long1")
    p.press("#draft", "Escape")
    expect(p.wait_answer()).to_contain_text("Stopped.")
    while p.mock.hung_up == 0:  # the test's own limit ends it
        p.wait_for_timeout(20)


def check_edit_and_regenerate(open_page):
    p = open_page()
    p.say("Hello")
    p.say("markdown")
    p.locator("article.user").first.hover()
    p.locator("article.user").first.get_by_label("Edit message").click()
    expect(p.get_by_label("Edit your message")).to_be_focused()
    p.get_by_label("Edit your message").press("Escape")
    expect(p.locator("article.user").first.get_by_label("Edit message")).to_be_focused()
    p.locator("article.user").first.get_by_label("Edit message").press("Enter")
    p.get_by_label("Edit your message").fill("Hello again")
    p.get_by_label("Edit your message").press("Enter")
    p.wait_answer()
    expect(p.locator("article")).to_have_count(2)  # what came behind it is gone
    expect(p.locator("article.answer")).to_contain_text("Hello again!")
    assert [m["content"] for m in p.mock.requests[-1]["messages"]] == ["Hello again"]
    ANSWERS["Hello again"], before = ANSWERS["Hello"], ANSWERS["Hello again"]
    p.get_by_label("Regenerate answer").click()
    expect(p.locator("article.answer")).to_contain_text("Hello! How can I help?")
    ANSWERS["Hello again"] = before
    p.wait_answer()
    expect(p.locator("article")).to_have_count(2)
    p.get_by_label("Copy answer").click()
    assert p.evaluate("navigator.clipboard.readText()") == "Hello! How can I help?"
    p.click("#new")
    expect(p.locator("article")).to_have_count(0)
    expect(p.locator("#welcome")).to_be_visible()


def check_errors_are_one_sentence(open_page):
    p = open_page()
    rows = {
        "400": ("The worker cannot use this request: said <b>400</b>.", None),
        "401": ("This worker asks for an API key. Enter it in the settings, then try again.", "Enter the key"),
        "403": ("The worker does not answer this page: said <b>403</b>.", None),
        "404": ("This worker has no chat. Update it, or point the proxy at a newer one.", None),
        "413": ("The conversation is too long to send. Start a new one or shorten it.", None),
        "429": ("The worker is busy and its queue is full. Try again in 7 seconds.", "Try again"),
        "500": ("The worker failed: said <b>500</b>. Try again, and look at its log.", "Try again"),
        "503": ("The worker takes no requests now (said <b>503</b>). Try again in 7 seconds.", "Try again"),
        "504": ("The answer took longer than this worker allows. Ask for fewer tokens.", "Try again"),
        "broken": ("The answer broke off: the device was lost.", "Try again"),
        "gone": ("The connection ended before the answer did. Check that the worker runs, then try again.", "Try again"),
    }
    for text, (sentence, action) in rows.items():
        problem = p.say(text).locator(".problem")
        expect(problem.locator("p")).to_have_text(sentence)
        assert problem.locator("button").all_inner_texts() == ([action] if action else []), text
        expect(p.locator("#announcer")).to_have_text(sentence)
    expect(p.locator("article.answer").last).to_contain_text("I was about to")  # what had come stays
    p.say("Hello")  # what was refused is not said again; what broke off is
    assert [m["content"] for m in p.mock.requests[-1]["messages"]] == [
        "broken", "Half of ", "gone", "I was about to ", "Hello"], p.mock.requests[-1]
    p.mock.go()
    sentence = "The worker cannot be reached. Check that it is running, then try again."
    expect(p.say("Hello").locator(".problem p")).to_have_text(sentence)
    expect(p.locator("#status-text")).to_have_text("not reachable")


def check_api_key(open_page):
    p = open_page()
    p.mock.key = "secret"
    p.say("Hello").get_by_text("Enter the key").click()
    expect(p.locator("#key")).to_be_focused()
    p.keyboard.type("wrong")
    expect(p.say("Hello").locator(".problem p")).to_contain_text("does not accept this API key")
    p.fill("#key", "secret")
    expect(p.say("Hello")).to_contain_text("How can I help?")
    assert "secret" not in p.evaluate("JSON.stringify(localStorage)")
    assert "secret" in p.evaluate("sessionStorage['worker-orcd.tab']")
    p.click("#request-tab")
    assert "secret" not in p.locator("#panel").inner_text() and "$WORKER_API_KEY" in p.locator("#curl").inner_text()
    other = p.context.new_page()  # another tab knows nothing of it
    other.goto(p.mock.url)
    assert "secret" not in other.evaluate("JSON.stringify(sessionStorage)")
    other.close()
    p.errors.clear()


def check_reload_while_streaming(open_page):
    p = open_page()
    p.say("Hello")
    p.start("slow")
    expect(p.locator("article.answer").last).to_contain_text("long3")
    p.reload()
    expect(p.locator("article")).to_have_count(4)
    last = p.locator("article.answer").last
    expect(last).to_contain_text("This takes long0")
    expect(last).to_contain_text("Cut: this page was left or reloaded while the answer came.")
    expect(p.locator("#send")).to_have_attribute("aria-label", "Send")
    p.reload()
    expect(last).to_contain_text("Cut:")
    expect(p.say("Hello")).to_contain_text("How can I help?")
    p.fill("#draft", "half a thought")
    p.reload()
    expect(p.locator("#draft")).to_have_value("half a thought")


def check_keyboard_only(open_page):
    p = open_page()
    focused = "document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent.trim()"
    expect(p.locator("#draft")).to_be_focused()
    p.keyboard.type("one")
    p.keyboard.press("Shift+Enter")
    p.keyboard.type("two")
    p.keyboard.press("Enter")
    expect(p.locator("article.user")).to_have_text(re.compile("one\ntwo"))
    p.wait_answer()
    expect(p.locator("#draft")).to_be_focused()
    p.keyboard.press("ArrowUp")
    expect(p.get_by_label("Edit your message")).to_be_focused()
    p.keyboard.press("Escape")
    seen = []
    p.locator("#draft").focus()
    for _ in range(8):
        p.keyboard.press("Shift+Tab")
        seen.append(p.evaluate(focused))
    assert seen == ["Regenerate answer", "Copy answer", "Copy message", "Edit message", "Conversation",
                    "Settings and worker", "New conversation"][: len(seen)] or "Settings and worker" in seen, seen
    p.locator("#panel-toggle").focus()
    p.keyboard.press("Enter")
    expect(p.locator("#panel")).to_be_visible()
    p.locator("#settings-tab").focus()
    for name in "tools", "worker", "request", "settings":
        p.keyboard.press("ArrowRight")
        expect(p.locator(f"#{name}-tab")).to_be_focused()
        expect(p.locator(f"#{name}-panel")).to_be_visible()
    p.keyboard.press("Escape")
    expect(p.locator("#panel")).to_be_hidden()
    expect(p.locator("#panel-toggle")).to_be_focused()


def check_hostile_output_does_not_run(open_page):
    p = open_page()
    for text in "hostile", "hostile reasoning", "hostile call":
        answer = p.say(text)
        for details in answer.locator("details").all():
            if details.is_visible():
                details.locator("summary").click()
    p.start("<img src=x onerror=\"window.ran='user'\">")
    p.wait_answer()
    p.wait_for_timeout(100)
    made = p.evaluate("""() => {
      const inside = (name) => [...document.querySelectorAll(`#messages ${name}`)];
      return {
        elements: inside("*").map((node) => node.localName),
        links: inside("a").map((node) => node.getAttribute("href")),
        handlers: inside("*").flatMap((node) => [...node.attributes]).filter(({ name }) => /^(on|style|src)/.test(name)).length,
      };
    }""")
    bad = {"script", "img", "iframe", "style", "base", "meta", "object", "embed", "form"} & set(made["elements"])
    # The form of a message that is edited is ours, and none is open.
    assert not bad and made["handlers"] == 0, (bad, made["handlers"])
    assert made["links"] and all(link.startswith(("http://tracker.invalid/", "http://evil.invalid")) for link in made["links"]), made["links"]
    for link in p.locator("#messages a").all():
        assert link.get_attribute("rel") == "noopener noreferrer nofollow" and link.get_attribute("target") == "_blank"
    expect(p.locator("article.answer").first).to_contain_text("<script>window.ran = 'script'</script>")
    p.reload()  # and from what was kept
    expect(p.locator("article")).to_have_count(8)


def check_policy_is_real(open_page):
    """What would run without the policy does not: the checks above could not fail otherwise."""
    p = open_page()
    p.evaluate("""() => {
      const script = document.createElement("script");
      try { script.textContent = "window.ran = 'added'"; } catch {}
      document.body.append(script);
      try { document.body.setAttribute("onclick", "window.ran = 'attribute'"); } catch {}
      try { document.body.insertAdjacentHTML("beforeend", "<img src=x onerror=\\"window.ran='markup'\\">"); } catch {}
      document.body.setAttribute("style", "color: red");
      document.body.click();
      fetch("http://127.0.0.1:9/").catch(() => {});
    }""")
    p.wait_for_timeout(200)
    found = set(p.evaluate("violations"))
    assert p.evaluate("window.ran") is None
    assert {"style-src-attr", "connect-src", "require-trusted-types-for"} <= found, found
    p.evaluate("violations.length = 0")
    p.errors.clear()


def check_markdown_is_as_markdown_it_has_it(open_page):
    texts = [MARKDOWN.split("\\(")[0].replace("- [x] done", "- done"),
             *markdown_oracle.inline_texts(11, 400), *markdown_oracle.block_texts(12, 400)]
    messages = [{"role": "assistant", "content": text, "reasoning": "", "calls": [], "state": "done"} for text in texts]
    p = open_page(storage={"messages": messages})
    expect(p.locator("article")).to_have_count(len(texts))
    html = p.evaluate("[...document.querySelectorAll('.answer > .markdown')].map((node) => node.innerHTML)")
    wrong = [(text, markdown_oracle.expected(text), markdown_oracle.shown(one)) for text, one in zip(texts, html)
             if markdown_oracle.expected(text) != markdown_oracle.shown(one)]
    assert not wrong, "\n".join(map(str, [len(wrong), *wrong[0]]))


def check_markdown_of_any_length(open_page):
    """Texts that some renderers need the square of their length for. Each must be there in the end."""
    n = 20_000
    texts = ["*a " * n, "[" * n, "![" * n, "[a](" * n, "`" * n + "a", "> " * n, "- " * n, "a`" * n, "\\(" * n, "<" * n,
             "&" * n, "# " + " " * n + "x", "|" * n + "\n" + "|-" * n, "(" * n + ")" * n, "_a" * n, "**a*b" * n, "\n" * n,
             "https://a" * n, "x" + " " * n + "x", "1. " * n, "[a](b" + "\\" * n, "***" + " *" * n + "x", "~~" * n]
    texts = [text[: 2 * n] for text in texts]
    messages = [{"role": "assistant", "content": text, "reasoning": "", "calls": [], "state": "done"} for text in texts]
    p = open_page(storage={"messages": messages})
    expect(p.locator("article")).to_have_count(len(texts))


def check_streamed_is_as_whole(open_page):
    """A text shown piece by piece looks in the end as if it had come at once."""
    p = open_page()
    streamed = p.say("markdown").locator(".markdown").last.evaluate("node => node.innerHTML")
    p.reload()
    assert p.locator(".answer > .markdown").evaluate("node => node.innerHTML") == streamed
    p.locator("#messages .code").get_by_label("Copy code").click()
    assert p.evaluate("navigator.clipboard.readText()").startswith("def greet(name: str) -> str:\n    # A comment\n")


def check_reasoning_is_folded(open_page):
    p = open_page()
    answer = p.say("think")
    expect(answer.locator(".reasoning .markdown")).to_be_hidden()
    answer.locator("summary").click()
    expect(answer.locator(".reasoning .markdown")).to_have_text("The user wants 4.")
    expect(answer.locator(".markdown").last).to_have_text("It is 4.")
    answer = p.say("think otherwise")
    assert p.mock.requests[-1]["messages"][1]["reasoning_content"] == "The user wants **4**."
    answer.locator("summary").click()
    expect(answer.locator(".reasoning .markdown")).to_have_text("Another name.")


def check_tools(open_page):
    p = open_page()
    p.click("#panel-toggle")
    p.click("#tools-tab")
    for text, problem in (("[", "This is not JSON"), ("{}", "Tools are a list"), ('[{"type": "function"}]', "Tool 1 needs")):
        p.fill("#tools", text)
        expect(p.locator("#tools-problem")).to_contain_text(problem)
    p.start("weather")
    expect(p.locator("#tools")).to_be_focused()  # nothing was sent
    assert p.mock.requests == []
    p.click("#tools-example")
    expect(p.locator("#tools-problem")).to_be_empty()
    p.click("#new")
    answer = p.say("weather")
    request = p.mock.requests[-1]
    assert request["tools"][0]["function"]["name"] == "get_weather" and request["tool_choice"] == "auto"
    expect(answer.locator(".call-name")).to_have_text(["get_weather", "get_weather"])
    expect(answer.locator(".call pre").first).to_have_text('{\n  "city": "Paris"\n}')
    expect(p.locator("#announcer")).to_contain_text("The model calls get_weather.")
    results = answer.get_by_label("Result of get_weather")
    results.first.fill("sunny")
    results.last.fill('{"rain": true}')
    answer.get_by_text("Send the results").click()
    expect(p.wait_answer()).to_contain_text("Paris has sun, and Rome rain.")
    sent = p.mock.requests[-1]["messages"]
    assert [m["role"] for m in sent] == ["user", "assistant", "tool", "tool"]
    assert sent[1]["tool_calls"][1] == {"id": "call_2", "type": "function",
                                        "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'}}
    assert sent[2] == {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}
    p.reload()
    expect(p.locator("article.answer").first.get_by_label("Result of get_weather").first).to_have_value("sunny")


def check_settings_and_snippets(open_page):
    p = open_page()
    p.click("#panel-toggle")
    values = {"system": "Be brief,\nand 'kind'.", "temperature": "0.3", "top_k": "40", "max_tokens": "64",
              "seed": "18446744073709551615", "stop": "END\n\n###", "presence_penalty": "-0.5"}
    for name, value in values.items():
        p.fill(f"#settings [name={name}]", value)
    p.fill("#settings [name=top_p]", "7")  # not one of its values: not sent
    p.select_option("#settings [name=thinking]", "off")
    p.say("Hello")
    request = p.mock.requests[-1]
    assert request["messages"][0] == {"role": "system", "content": "Be brief,\nand 'kind'."}
    expected = {"temperature": 0.3, "top_k": 40, "max_tokens": 64, "seed": 18446744073709551615, "stop": ["END", "###"],
                "presence_penalty": -0.5, "chat_template_kwargs": {"enable_thinking": False}}
    assert {k: request[k] for k in expected} == expected and "top_p" not in request
    p.click("#request-tab")
    p.fill("#draft", "It's \"quoted\" $HOME `x` \\ ü")
    p.say("It's \"quoted\" $HOME `x` \\ ü")
    p.fill("#draft", "Hello")
    answer = subprocess.run(["bash", "-c", p.locator("#curl").text_content() + " -s"], capture_output=True, text=True)
    assert "data: [DONE]" in answer.stdout, answer
    by_curl = p.mock.requests[-1]
    assert by_curl["messages"][-1]["content"] == "Hello" and {k: by_curl[k] for k in expected} == expected
    tree = ast.parse(p.locator("#python").text_content())
    (call,) = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func).endswith("completions.create")]
    by_python = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
    by_python |= by_python.pop("extra_body")
    assert by_python == by_curl, by_python
    p.reload()
    p.click("#settings-tab")
    expect(p.locator("[name=temperature]")).to_have_value("0.3")
    p.click("#reset")
    p.say("Hello")
    assert "temperature" not in p.mock.requests[-1] and p.mock.requests[-1]["messages"][0]["role"] == "user"


def read_metrics(p):
    """Two seconds later."""
    with p.expect_response("**/metrics"):
        p.clock.run_for(2000)


def check_facts_and_charts(open_page):
    p = open_page(own_clock=True)
    p.click("#panel-toggle")
    p.click("#worker-tab")
    for text in "Q4_K_M", "32,768 tokens", "compute capability 8.9", "9.8 GB of 24.0 GB", "at most 16":
        expect(p.locator("#facts")).to_contain_text(text)
    titles = p.locator(".chart-title")
    expect(titles).to_have_text(["Jobs and queue", "Tokens", "KV pages", "VRAM", "First token", "Between tokens",
                                 "In the queue", "Whole answers", "Rows in a step"])
    expect(p.locator(".chart").nth(2)).to_contain_text("310 of 1,000 used")
    read_metrics(p)
    expect(p.locator(".chart").nth(1)).to_contain_text("85 a second")
    # Half of 69 values: 34.5, of which 11 lie below 5; so 23.5 of 30 into the bucket up to 10.
    expect(p.locator(".chart").nth(4).locator(".chart-value")).to_have_text("9 ms")
    p.mock.metrics = "worker_jobs_active 0\nworker_kv_used_ratio 0.25\nworker_vram_bytes 0\n"
    read_metrics(p)
    expect(titles).to_have_text(["Jobs", "KV cache"])  # what is missing has no chart
    expect(p.locator(".chart").nth(1)).to_contain_text("25% used")
    p.mock.metrics = "not { metrics\n"
    read_metrics(p)
    expect(titles).to_have_count(0)


def check_starting_worker(open_page):
    p = open_page(own_clock=True)
    p.mock.health = {"status": "starting", "load_progress": 0.434}
    p.clock.run_for(5000)
    expect(p.locator("#status-text")).to_have_text("loading 43%")
    p.mock.health = {"status": "busy"}
    p.clock.run_for(1000)
    expect(p.locator("#status-text")).to_have_text("busy")


def no_overflow(p, name):
    wide = p.evaluate("""() => [...document.querySelectorAll("body *")].filter((node) => {
      const box = node.getBoundingClientRect();
      const scrolls = node.closest("pre, .scroll, svg, .offscreen");
      return box.width > 0 && !scrolls && (box.right > innerWidth + 1 || box.left < -1);
    }).map((node) => node.outerHTML.slice(0, 120))""")
    assert wide == [] and p.evaluate("document.documentElement.scrollWidth <= innerWidth"), (name, wide)


def no_violations(p, name):
    found = Axe().run(p.page).response["violations"]
    serious = [(v["id"], v["help"], [n["html"][:160] for n in v["nodes"][:3]]) for v in found]
    assert serious == [], (name, serious)


def check_views(open_page, screenshots=None):
    """Every state in both themes, on a phone and on a desktop: nothing sticks out, and axe finds nothing."""
    for theme in "light", "dark":
        for width, height in (360, 740), (1440, 900):
            p = open_page(width=width, height=height, theme=theme, touch=width == 360)

            def look(name, p=p, suffix=f"{theme}-{width}"):
                no_overflow(p, f"{name}-{suffix}")
                if (theme == "dark") == (width == 360):  # its colours and its width once each
                    no_violations(p, f"{name}-{suffix}")
                if screenshots:
                    p.screenshot(path=screenshots / f"{name}-{suffix}.png")

            def say(text, p=p):
                p.fill("#draft", text)
                p.click("#send")
                return p.wait_answer()

            look("empty")
            say("markdown")
            look("markdown")
            say("think").locator("summary").click()
            say("weather")
            look("call")
            say("429")
            say("averylongwordwithoutanyspaceinit" * 8)
            look("error")
            p.click("#panel-toggle")
            look("settings")
            p.click("#tools-tab")
            p.fill("#tools", "[")
            look("tools")
            p.fill("#tools", "")
            p.click("#worker-tab")
            expect(p.locator(".chart")).to_have_count(9)
            look("worker")
            p.click("#request-tab")
            look("request")
            p.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("worker")
    parser.add_argument("--browser", default="/usr/bin/chromium")
    parser.add_argument("--screenshots", type=pathlib.Path)
    parser.add_argument("checks", nargs="*")
    options = parser.parse_intermixed_args()
    checks = {name: value for name, value in globals().items() if name.startswith("check_")}
    failed = 0
    with sync_playwright() as playwright:
        # The browser's own sandbox needs rights that containers do not have.
        browser = playwright.chromium.launch(executable_path=options.browser, args=["--no-sandbox", "--disable-dev-shm-usage"])
        for name, check in checks.items():
            if options.checks and name not in options.checks:
                continue
            pages = []

            def open_page(**more):
                pages.append(Page(browser, options.worker, **more))
                return pages[-1]

            try:
                if name == "check_views":
                    check(open_page, options.screenshots)
                else:
                    check(open_page)
                    for page in pages:
                        page.close()
                print(f"{name}: held", flush=True)
            except Exception:
                failed += 1
                print(f"{name}: FAILED\n{traceback.format_exc()}", flush=True)
                for page in pages:
                    page.context.close()
        browser.close()
    print(f"{len(options.checks or checks) - failed} held, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
