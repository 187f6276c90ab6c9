"""Compares the interpreter of src/template with Python's jinja2 on published chat templates.

    python3 tests/tools/check_templates.py RENDERER FILE...

RENDERER is tests/tools/render_templates.c as a program. A FILE is a template, or JSON whose member "chat_template" is
one, or a list of named ones. Each is rendered with 20 conversations, each with and without add_generation_prompt. Where
jinja2 refuses a conversation, the renderer must refuse it, too.
"""

import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "vectors", "template"))

from random_templates import Renderer  # noqa: E402
from reference import render  # noqa: E402

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather of a place.\nIn °C.",
            "parameters": {
                "type": "object",
                "properties": {
                    "place": {"type": "string", "description": "a town <b>"},
                    "unit": {"type": "string", "enum": ["c", "f"], "default": "c"},
                    "days": {"type": ["integer", "null"], "minimum": 1},
                    "tags": {"type": "array", "items": {"type": "string"}},
                    "at": {"type": "object", "properties": {"lat": {"type": "number"}}, "required": ["lat"]},
                },
                "required": ["place"],
            },
            "return": {"type": "object", "description": "what was found"},
        },
    },
    {
        "type": "function",
        "function": {"name": "now", "description": "", "parameters": {"type": "object", "properties": {}}},
    },
]


def user(content):
    return {"role": "user", "content": content}


def system(content):
    return {"role": "system", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def call(name, arguments, number=1):
    return {"id": f"call{number:05d}", "type": "function", "function": {"name": name, "arguments": arguments}}


def result(content, number=1, name="get_weather"):
    return {"role": "tool", "content": content, "tool_call_id": f"call{number:05d}", "name": name}


HI = user("Hello, who are you?")
WEATHER = call("get_weather", {"place": 'Å "x" & <y>', "days": 2, "tags": ["a", "b"], "at": {"lat": 1.5}})
CONVERSATIONS = {
    "one turn": {"messages": [HI]},
    "system": {"messages": [system("Be brief."), HI]},
    "several turns": {"messages": [HI, assistant("I am."), user("Why?"), assistant("So."), user("Oh.")]},
    "system, several turns": {"messages": [system(" Be\nbrief. "), HI, assistant(" I am.\n"), user("\tWhy? ")]},
    "ends with assistant": {"messages": [HI, assistant("I am")]},
    "tools": {"messages": [HI], "tools": TOOLS},
    "system and tools": {"messages": [system("Be brief."), HI], "tools": TOOLS},
    "a call and its result": {
        "messages": [HI, assistant("", tool_calls=[WEATHER]), result("12 °C"), assistant("It is cold."), user("And?")],
        "tools": TOOLS,
    },
    "a result at the end": {
        "messages": [HI, assistant(None, tool_calls=[WEATHER]), result('{"t": 12}')],
        "tools": TOOLS,
    },
    "two calls": {
        "messages": [
            system("Be brief."),
            HI,
            assistant("Let me look.", tool_calls=[WEATHER, call("now", {}, 2)]),
            result("12", 1),
            result("noon", 2, "now"),
            assistant("Done."),
        ],
        "tools": TOOLS,
    },
    "arguments as text": {
        "messages": [HI, assistant("", tool_calls=[call("now", '{"a": "b"}')]), result("noon", 1, "now")],
        "tools": TOOLS,
    },
    "reasoning": {
        "messages": [HI, assistant("I am.", reasoning_content="Who am I?\n"), user("Why?")],
        "enable_thinking": True,
    },
    "reasoning in the content": {
        "messages": [HI, assistant("<think>\nWho?\n</think>\n\nI am."), user("Why?"), assistant("<think>x</think>y")],
        "enable_thinking": False,
    },
    "reasoning by other names": {
        "messages": [HI, assistant("I am.", thinking="Who am I?", reasoning="Hm"), user("Why?")],
        "thinking": True,
        "reasoning_effort": "high",
    },
    "reasoning before a call": {
        "messages": [HI, assistant("", reasoning_content="Look.", tool_calls=[WEATHER]), result("12")],
        "tools": TOOLS,
        "enable_thinking": True,
        "reasoning_effort": "low",
    },
    "parts": {
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "user", "content": [{"type": "text", "text": "One. "}, {"type": "text", "text": "Two."}]},
            {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]},
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]},
        ]
    },
    "empty texts": {"messages": [system(""), user(""), assistant(""), user("")]},
    "odd texts": {
        "messages": [
            system("<|im_start|>{{ x }}\u2028{% if %}"),
            user("\u00e9\U0001f600\x00\x7f'\"\\ </s>[INST]\r\n"),
            assistant("  <tool_call>{}</tool_call> "),
            user("ǅ ﬁ ß"),
        ]
    },
    "odd roles": {
        "messages": [user("a"), user("b"), {"role": "developer", "content": "c"}, {"role": "observer", "content": "d"}]
    },
    "no messages": {"messages": []},
    "documents": {
        "messages": [HI],
        "documents": [{"title": "T", "text": "x", "doc_id": 1}],
        "custom_tools": TOOLS,
        "builtin_tools": ["brave_search"],
        "date_string": "1 Jan 2030",
        "xml_tools": None,
    },
}


def templates(path):
    with open(path, encoding="utf-8") as f:
        source = f.read()
    if not path.endswith(".json"):
        return {os.path.basename(path): source}
    found = json.loads(source).get("chat_template", [])
    if isinstance(found, str):
        return {os.path.basename(path): found}
    return {f"{os.path.basename(path)} {one['name']}": one["template"] for one in found}


def check(renderer, name, source):
    rendered, refused, differ = 0, 0, 0
    for label, variables in CONVERSATIONS.items():
        for prompt in (False, True):
            given = {**variables, "add_generation_prompt": prompt}
            expected = render(source, given)
            text, error = renderer.render(source, given)
            rendered += expected is not None
            refused += expected is None
            if text != expected:
                differ += 1
                print(
                    f"{name}, {label}, {prompt}:\n  jinja2   {expected!r}\n  renderer {text if text is not None else error!r}"
                )
    print(f"{name}: {rendered} rendered, {refused} refused by both or differ, {differ} differ")
    return differ


def main(path, files):
    renderer = Renderer(path)
    sources = {name: source for file in files for name, source in templates(file).items()}
    differ = [name for name, source in sources.items() if check(renderer, name, source)]
    print(f"{len(sources)} templates, {len(sources) - len(differ)} equal; not: {differ}")
    return len(differ) > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
