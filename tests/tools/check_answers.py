"""Has published chat templates write random calls as a model does, and parses them back.

    python3 tests/tools/check_answers.py PARSER FILE...

PARSER is tests/tools/parse_answers.c as a program. A FILE is a template, or JSON whose member "chat_template" is one,
or a list of named ones. For each, the formats that it is found to have are printed, and how many random answers (with
content, reasoning and calls, as far as the template writes them) came back equal. ROUNDS is in the environment.
"""

import functools
import json
import os
import random
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "vectors", "template"))

from check_templates import templates  # noqa: E402
from reference import CONSTANTS, ENVIRONMENT  # noqa: E402

ROUNDS = int(os.environ.get("ROUNDS", "60"))
# Behind these a model says nothing more.
ENDS = """<|im_end|> </s> <|eot_id|> <|eom_id|> <|end_of_text|> <|return|> <|call|> <｜end▁of▁sentence｜> <turn|> [e~[
<|END_OF_TURN_TOKEN|> <seed:eos> <|endoftext|> <|end|> <SPECIAL_12> <|tool_response> <end_of_turn> <|eot|> <end_of_sentence>
<|hy_eos|> <|message_sep|> <sep> <|eos|>""".split()
RICH = list("abcdefgh XYZ0123456789,.:;!?()[]{}<>/=+-_'\"\\#*") + ["\n", "\t", "é", "😀", "true", "12", "</", "{}", "&"]
# Where strings are written without escapes.
PLAIN = list("abcdefgh XYZ0123456789.!?-é😀")
WORDS = list("abcdefgh XYZé")
ALPHABETS = {"lfm2": PLAIN, "pythonic": WORDS}
CUTS = (0, 1, 7)
OPENINGS = ["", "<think>\n", "<think>", "</think>", "<think></think>", "<think>\n\n</think>\n\n", "Here are my reasoning steps:\n"]
CLOSINGS = ["</think>", "[BEGIN FINAL RESPONSE]"]
SILENT = ["<|START_RESPONSE|>", "<|END_RESPONSE|>"]
ONE_CALL = ["gigachat", "harmony"]  # whose templates write no more than the first

PROPERTIES = {
    "text": {"type": "string"},
    "name": {"type": "string", "enum": ["12", "true", "null"]},
    "count": {"type": "integer"},
    "ratio": {"type": "number"},
    "flag": {"type": "boolean"},
    "nothing": {"type": ["string", "null"]},
    "items": {"type": "array", "items": {}},
    "where": {"type": "object"},
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "Does it.",
            "parameters": {"type": "object", "properties": PROPERTIES, "required": []},
        },
    }
    for name in ("get", "get_weather", "now")
]


class Parser:
    def __init__(self, path):
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **question):
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@functools.lru_cache
def compiled(source):
    return ENVIRONMENT.from_string(source)


def render(source, variables):
    try:
        return compiled(source).render(**{**CONSTANTS, **variables})
    except Exception:  # a template may raise anything
        return None


def text(dice, alphabet, most=12):
    return "".join(dice.choice(alphabet) for _ in range(dice.randint(1, most))).strip(" ") or "x"


def value(dice, alphabet, depth=0):
    kind = dice.randrange(7 if depth < 2 else 5)
    if kind == 0:
        return text(dice, alphabet)
    if kind == 1:
        return dice.randint(-(10**9), 10**9)
    if kind == 2:
        return dice.choice([0.5, -1.25, 1e-05, 1e22])
    if kind == 3:
        return dice.choice([True, False])
    if kind == 4:
        return None
    if kind == 5:
        return [value(dice, alphabet, depth + 1) for _ in range(dice.randrange(3))]
    return {text(dice, list("abc_")) + str(i): value(dice, alphabet, depth + 1) for i in range(dice.randrange(3))}


def arguments(dice, alphabet):
    made = {
        "text": lambda: text(dice, alphabet),
        "name": lambda: dice.choice(PROPERTIES["name"]["enum"]),
        "count": lambda: dice.randint(-99, 10**12),
        "ratio": lambda: dice.choice([0.5, -1.25, 1e-05, 3]),
        "flag": lambda: dice.choice([True, False]),
        "nothing": lambda: None,
        "items": lambda: [value(dice, alphabet, 1) for _ in range(dice.randrange(3))],
        "where": lambda: {"k" + str(i): value(dice, alphabet, 1) for i in range(dice.randrange(3))},
    }
    if alphabet is WORDS:
        made = {"text": made["text"], "count": made["count"]}
    return {key: make() for key, make in made.items() if dice.random() < 0.5}


def words(dice):
    return " ".join(dice.choice(["Look", "at", "this.", "I", "think", "so:", "**bold**", "é"]) for _ in range(5)).strip()


def assistant(dice, alphabet, shape):
    message = {"role": "assistant", "content": ""}
    if shape["content"]:
        message["content"] = words(dice)
    if shape["reasoning"]:
        message |= dict.fromkeys(shape["reasoning"], "Hm, " + words(dice))
    if shape["calls"]:
        message["tool_calls"] = [
            {
                "id": f"call{number:05d}",
                "type": "function",
                "function": {
                    "name": dice.choice(TOOLS)["function"]["name"],
                    "arguments": arguments(dice, alphabet),
                },
            }
            for number in range(shape["calls"])
        ]
    return message


def cut_end(answer):
    """Up to the text that ends the turn, which is the first of them."""
    return answer[: min((at for at in map(answer.find, ENDS) if at >= 0), default=len(answer))]


def common(a, b):
    length = 0
    while length < min(len(a), len(b)) and a[length] == b[length]:
        length += 1
    return length


def begin(prompt, whole):
    """Where the answer begins in `whole`, and the prompt in front of it."""
    for opening in OPENINGS:
        before = prompt[: len(prompt) - len(opening)]
        if prompt.endswith(opening) and whole.startswith(before):
            # The template has opened the reasoning where it is closed and not opened.
            answer = whole[len(before) :]
            opened = opening.strip() not in answer and any(mark in answer for mark in CLOSINGS)
            return len(before), prompt if opened else before
    length = common(prompt, whole)
    return length, prompt[:length]


def spoken(source, message, harmony):
    """The prompt, and how the template writes the message; None where it refuses it."""
    variables = {"messages": [{"role": "user", "content": "Hi"}], "tools": TOOLS, "enable_thinking": True, "thinking": True}
    prompt = render(source, {**variables, "add_generation_prompt": True})
    whole = render(source, {**variables, "messages": variables["messages"] + [message], "add_generation_prompt": False})
    if prompt is None or whole is None:
        return None
    length, prompt = begin(prompt, whole)
    answer = whole[length:]
    for mark in SILENT:  # control tokens that give no text
        answer = answer.replace(mark, "")
    if harmony:  # whose messages end within an answer
        for mark in ("<|call|>", "<|return|>"):
            answer = answer.split(mark)[0]
        return prompt, answer
    return prompt, cut_end(answer)


def joined(parts):
    content, reasoning, calls = "", "", []
    for kind, piece in parts:
        if kind == "content":
            content += piece
        elif kind == "reasoning":
            reasoning += piece
        elif kind == "call":
            calls.append([piece, ""])
        elif kind == "arguments":
            calls[-1][1] += piece
    return content.strip(), reasoning.strip(), calls


def same_calls(calls, message):
    expected = [(c["function"]["name"], c["function"]["arguments"]) for c in message.get("tool_calls", [])]
    try:
        return [(name, json.loads(given)) for name, given in calls] == expected
    except ValueError:
        return False


def check_one(parser, source, formats, dice, shape):
    """None where the template does not write the message; else what differs, or ""."""
    alphabet = ALPHABETS.get(formats["tools"], RICH)
    message = assistant(dice, alphabet, shape)
    written = spoken(source, message, formats["tools"] == "harmony")
    if written is None or not written[1].strip():
        return None
    prompt, answer = written
    if any(c["function"]["name"] not in answer for c in message.get("tool_calls", [])):
        return None
    found = [
        parser.ask(template=source, tools=TOOLS, prompt=prompt, answer=answer, piece=piece) for piece in CUTS
    ]
    parts = [joined(one["parts"]) for one in found]
    if any(one != parts[0] for one in parts):
        return f"differs by cuts: {parts}"
    content, reasoning, calls = parts[0]
    thought = message[shape["reasoning"][0]] if shape["reasoning"] else ""
    expected = (
        message["content"] if message["content"] and message["content"] in answer else "",
        thought if thought and thought in answer else "",
    )
    if formats["reasoning"] == "none" and expected[1]:
        return None
    if (content, reasoning) != expected or not same_calls(calls, message):
        return f"answer {answer!r}\n  prompt's end {prompt[-40:]!r}\n  found {parts[0]}\n  expected {expected}"
    return ""


def shapes(formats):
    for keys in ((), ("reasoning_content", "reasoning"), ("thinking",)):
        for content in (False, True):
            for calls in (0, 1, 2) if formats["tools"] != "none" else (0,):
                if calls > 1 and formats["tools"] in ONE_CALL or content and calls and formats["tools"] == "harmony":
                    continue
                yield {"content": content, "reasoning": keys, "calls": calls}


def check(parser, name, source):
    formats = parser.ask(template=source)
    if formats["tools"] == formats["reasoning"] == "none":
        print(f"{'none':16} {'none':10} {name}")
        return 0
    dice = random.Random(name)
    equal = differ = refused = 0
    for shape in shapes(formats):
        for _ in range(max(1, ROUNDS // 12)):
            problem = check_one(parser, source, formats, dice, shape)
            equal += problem == ""
            refused += problem is None
            differ += bool(problem)
            if problem and differ == 1:
                print(f"{name}, {shape}:\n  {problem}")
    print(f"{formats['tools']:16} {formats['reasoning']:10} {equal:5} equal {differ:4} differ {refused:4} not written  {name}")
    return differ


def main(path, files):
    parser = Parser(path)
    sources = {name: source for file in files for name, source in templates(file).items()}
    differ = [name for name, source in sources.items() if check(parser, name, source)]
    print(f"{len(sources)} templates, {len(sources) - len(differ)} without a difference; not: {differ}")
    return len(differ) > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
