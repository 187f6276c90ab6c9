#!/usr/bin/env python3
"""Writes json_python.txt: texts, and what Python's json module reads in them.

    python3 make_json.py > json_python.txt             (Python 3.11)
    python3 make_json.py 200000 SEED > /tmp/many.txt   (more, for a run of one's own)

Each line: the text in hexadecimal, a blank, and either '-' (refused) or the value: n, t, f; i and a decimal integer; d and
the 16 hexadecimal digits of the double; s and the UTF-8 bytes in hexadecimal; [value,...]; {value:value,...} with every
member in the text's order.

Python is made as strict as RFC 8259: NaN and Infinity refused, the text and its strings must be UTF-8. Two limits of
the program's own are applied here: at most 64 nested containers, and no number that overflows a double.
"""
import json, math, random, struct, sys

DEPTH_MAX = 64


class Pairs(list):
    pass


def refuse(text):
    raise ValueError(text)


def parse_float(text):
    value = float(text)
    return value if math.isfinite(value) else refuse(text)


def parse_int(text):
    value = int(text)
    if text.startswith("-") and value == 0:
        return -0.0
    return value if -2**63 <= value < 2**64 else parse_float(text)


def show(value, depth=1):
    if isinstance(value, (Pairs, list)) and depth > DEPTH_MAX:
        refuse("depth")
    if value is None:
        return "n"
    if value is True or value is False:
        return "t" if value else "f"
    if isinstance(value, int):
        return "i%d" % value
    if isinstance(value, float):
        return "d" + struct.pack(">d", value).hex()
    if isinstance(value, str):
        return "s" + value.encode("utf-8").hex()
    if isinstance(value, Pairs):
        return "{" + ",".join(show(k) + ":" + show(v, depth + 1) for k, v in value) + "}"
    return "[" + ",".join(show(v, depth + 1) for v in value) + "]"


def read(data):
    try:
        value = json.loads(data.decode("utf-8"), parse_float=parse_float, parse_int=parse_int,
                           parse_constant=refuse, object_pairs_hook=Pairs)
        return show(value)
    except (ValueError, RecursionError):
        return "-"


SEEDS = [
    b'{"job_id":"a-1","prompt":"Write a haiku","max_tokens":16,"temperature":0.7,"seed":18446744073709551615}',
    b'[0,-0,1,-1,1.5,-2.25e-3,1E+2,1e400,0.1e1,9007199254740993,18446744073709551616,-9223372036854775808]',
    b'[123456789012345678901234567890, 2.2250738585072011e-308, 4.9e-324, 1.7976931348623157e308]',
    b'["", "\\"\\\\\\/\\b\\f\\n\\r\\t", "\\u0041\\u00e9\\u20ac\\ud83d\\ude00", "\\u0000"]',
    '{"é":"€","\U0001f600":["\u07ff","\u0800","\ud7ff","\ue000","\uffff","\U0010ffff"]}'.encode(),
    b' { "a" : [ true , false , null , { } , [ ] ] , "a" : { "b" : { "c" : [ [ [ ] ] ] } } } \n',
    b'"a long plain string of which no character needs a second look, forty and more"',
    b'[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]',
]
SPLICES = [b'"', b"\\", b"\\u", b"\\ud83d", b"\\udc00", b"{", b"}", b"[", b"]", b",", b":", b"-", b"+", b".", b"e", b"E5",
           b"0", b"00", b"9", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xef\xbb\xbf",
           b"\x00", b"\x1f", b"\x7f", b"\t", b"\n", b"\x0b", b" ", b"nul", b"null", b"true", b"NaN", b"Infinity", b"//",
           b"'", b"/**/", b"1e-400", b"0x1", b"\xc2\xa0", b"99999999999999999999"]


def number(rng):
    digits = lambda most: "".join(rng.choice("0123456789") for _ in range(rng.randrange(1, most)))
    text = rng.choice(("", "-")) + (rng.choice("123456789") + digits(rng.choice((2, 19, 25))))
    if rng.random() < 0.5:
        text += "." + digits(rng.choice((3, 20)))
    if rng.random() < 0.4:
        text += rng.choice("eE") + rng.choice(("", "+", "-")) + digits(rng.choice((2, 3, 4)))
    return text


def string(rng):
    pieces = ["a", "plain text", "\\n", "\\u00e9", "\\u20AC", "\\ud83d\\ude00", "\\\\", '\\"', "\\/", "é", "€", "😀", "\x7f"]
    return '"' + "".join(rng.choice(pieces) for _ in range(rng.randrange(5))) + '"'


def generate(rng, depth=0):
    blank = lambda: rng.choice(("", "", "", " ", "\n", "\t \r"))
    kind = rng.randrange(8 if depth < 3 else 5)
    if kind < 5:
        return blank() + (number(rng), number(rng), string(rng), string(rng), rng.choice(("true", "false", "null")))[kind]
    members = [generate(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 7:
        members = [blank() + string(rng) + blank() + ":" + member for member in members]
    return blank() + "[{"[kind == 7] + ",".join(members) + blank() + "]}"[kind == 7]


def mutate(rng, data):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            data[at:at] = rng.choice(SPLICES)
        elif kind == 1:
            del data[at:at + rng.choice((1, 1, 2, 5))]
        elif kind == 2 and at < len(data):
            data[at] = rng.choice((rng.randrange(256), data[at] ^ 1 << rng.randrange(8)))
        elif kind == 3:
            data[at:at + 1] = rng.choice(SPLICES)
        else:
            piece = rng.choice(SEEDS)
            data = data[:at] + piece[rng.randrange(len(piece)):] if rng.random() < 0.5 else data[:at]
    return bytes(data)


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 700
    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    texts = dict.fromkeys(SEEDS)
    while len(texts) < count:
        # Short ones first: they fit a small file, and one mutation matters more in them.
        seed = rng.choice(SEEDS)
        if rng.random() < 0.6:
            at = rng.randrange(len(seed))
            seed = b"[" + seed[at:at + rng.randrange(1, 24)] + b"]"
        if rng.random() < 0.5:
            seed = generate(rng).encode()
            if len(seed) > 120:
                continue
        texts[seed if rng.random() < 0.3 else mutate(rng, seed)] = None
    for text in texts:
        print(text.hex() or "''", read(text))


main()
