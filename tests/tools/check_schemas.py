#!/usr/bin/env python3
"""Compares random schemas with the package jsonschema: instances one by one, and documents that the grammar wrote.

    python3 tests/tools/check_schemas.py /tmp/sample_schemas [schemas, 1000] [seed, 1]
    python3 tests/tools/check_schemas.py --write 160 > tests/vectors/schema_random.txt

The program may have an argument, "/tmp/sample_schemas /tmp/tokenizer.json": instances are then taken token by token.

(jsonschema 4.23.0, rfc3339-validator 0.1.4; sample_schemas.c says how it is built.) Exits with 1 where they differ. With
--write it prints the lines of schema_random.txt, which are of the form of schema_suite.txt.

Numbers are decimals here, as they are in the grammar; patterns mean what ECMA-262 says ($ is the end, \\d is ASCII).
"""
import decimal
import json
import random
import re
import subprocess
import sys

import jsonschema
from jsonschema import _keywords, _utils

PATTERNS = ["^a", "b$", "^[ab]+$", "a.c", "^.{2,3}$", "\\d", "^(a|bc)*$", "x", "^$", "[^a]", "^(?!ab)"]
KEYS = ["a", "b", "c", "ab", "bc", "x1"]
TEXTS = ["", "a", "b", "ab", "abc", "bc", "a1", "xx", "aaaa", "é", "a/b", "2024-02-29", "2023-02-29", "127.0.0.1", "\"\\", "12:00:00Z"]
NUMBERS = ["0", "1", "2", "3", "-1", "-2", "5", "10", "0.5", "1.5", "2.0", "-0.5", "2.25", "100", "0.1", "7"]
FORMATS = ["date", "ipv4", "ipv6", "uuid", "date-time", "no-such-format"]


class Patterns:
    """In the place of re, for the package's own searches."""

    @staticmethod
    def search(pattern, text):
        return re.search(pattern.replace("$", "\\Z"), text, re.ASCII)


_keywords.re = _utils.re = Patterns
decimal.getcontext().prec = 20100  # a document's numbers may have that many digits
decimal.getcontext().Emax, decimal.getcontext().Emin = decimal.MAX_EMAX, decimal.MIN_EMIN


def is_integer(checker, value):
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, decimal.Decimal) and value == value.to_integral_value())


BASE = jsonschema.Draft202012Validator
Validator = jsonschema.validators.extend(BASE, type_checker=BASE.TYPE_CHECKER.redefine("integer", is_integer))


def read_number(text):
    # An exponent stands only where any number may: a large one, which decimals cannot divide, is made smaller.
    return decimal.Decimal(re.sub("[eE]([-+]?)[0-9]{4,}$", r"e\g<1>99", text))


def read(text):
    return json.loads(text, parse_float=read_number)


def is_valid(validator, text):
    return validator.is_valid(read(text))


class Generator:
    def __init__(self, seed):
        self.r = random.Random(seed)
        self.n_defs = 0

    def number(self):
        return decimal.Decimal(self.r.choice(NUMBERS))

    def value(self, depth=2):
        kind = self.r.randrange(8 if depth else 5)
        if kind == 0:
            return self.r.choice([None, True, False])
        if kind <= 2:
            return self.number()
        if kind <= 4:
            return self.r.choice(TEXTS)
        if kind == 5:
            return [self.value(depth - 1) for _ in range(self.r.randrange(4))]
        return {self.r.choice(KEYS): self.value(depth - 1) for _ in range(self.r.randrange(4))}

    def maybe(self, chance):
        return self.r.random() < chance

    def schema(self, depth):
        r = self.r
        if depth == 0 or self.maybe(0.08):
            return r.choice([True, True, {"type": "string"}, {"type": "integer"}, {"type": "null"}, {"const": self.value(1)},
                             {"enum": [self.value(1) for _ in range(3)]}, False, {"type": "number"}, {"type": "boolean"}])
        if self.maybe(0.06):
            return {"$ref": "#/$defs/d%d" % r.randrange(3)}
        s = {}
        if self.maybe(0.5):
            types = r.sample(["null", "boolean", "number", "integer", "string", "array", "object"], r.choice([1, 1, 1, 2, 3]))
            s["type"] = types[0] if len(types) == 1 else types
        for add in r.sample([self.add_number, self.add_string, self.add_object, self.add_array, self.add_combination], r.choice([1, 1, 2])):
            add(s, depth)
        return s

    def add_number(self, s, depth):
        for keyword in ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]:
            if self.maybe(0.25):
                s[keyword] = self.number()
        if self.maybe(0.2):
            s["multipleOf"] = decimal.Decimal(self.r.choice(["1", "2", "0.5", "3", "0.25"]))

    def add_string(self, s, depth):
        if self.maybe(0.3):
            s["minLength"] = self.r.randrange(4)
        if self.maybe(0.3):
            s["maxLength"] = self.r.randrange(5)
        if self.maybe(0.3):
            s["pattern"] = self.r.choice(PATTERNS)
        if self.maybe(0.15):
            s["format"] = self.r.choice(FORMATS)

    def add_object(self, s, depth):
        r = self.r
        if self.maybe(0.7):
            s["properties"] = {k: self.schema(depth - 1) for k in r.sample(KEYS, r.randrange(1, 4))}
        if self.maybe(0.2):
            s["patternProperties"] = {p: self.schema(depth - 1) for p in r.sample(PATTERNS, r.choice([1, 1, 2]))}
        if self.maybe(0.3):
            s["additionalProperties"] = r.choice([False, False, self.schema(depth - 1)])
        if self.maybe(0.4):
            s["required"] = r.sample(KEYS, r.randrange(3))
        if self.maybe(0.1):
            s["propertyNames"] = r.choice([{"maxLength": 1}, {"pattern": r.choice(PATTERNS)}, {"enum": r.sample(KEYS, 3)}])
        if self.maybe(0.15):
            s["minProperties"] = r.randrange(3)
        if self.maybe(0.15):
            s["maxProperties"] = r.randrange(4)
        if self.maybe(0.12):
            s["dependentRequired"] = {r.choice(KEYS): r.sample(KEYS, r.randrange(1, 3))}
        if self.maybe(0.1):
            s["dependentSchemas"] = {r.choice(KEYS): self.schema(depth - 1)}
        if self.maybe(0.08):
            s["unevaluatedProperties"] = r.choice([False, self.schema(depth - 1)])
            if isinstance(s.get("additionalProperties"), dict):
                del s["unevaluatedProperties"]  # the package does not see that all names are evaluated

    def add_array(self, s, depth):
        r = self.r
        if self.maybe(0.4):
            s["prefixItems"] = [self.schema(depth - 1) for _ in range(r.randrange(1, 4))]
        if self.maybe(0.5):
            s["items"] = self.schema(depth - 1)
        if self.maybe(0.25):
            s["minItems"] = r.randrange(3)
        if self.maybe(0.25):
            s["maxItems"] = r.randrange(4)
        if self.maybe(0.25):
            s["contains"] = self.schema(depth - 1)
            if self.maybe(0.4):
                s["minContains"] = r.randrange(3)
            if self.maybe(0.4):
                s["maxContains"] = r.randrange(1, 3)
        if self.maybe(0.15):
            s["uniqueItems"] = True
            if self.maybe(0.7):
                s["items"] = self.scalar()
                s.pop("prefixItems", None)
                s.pop("contains", None)
        if self.maybe(0.08):
            s["unevaluatedItems"] = r.choice([False, self.schema(depth - 1)])

    def scalar(self):
        s = {"type": self.r.choice(["string", "integer", "number", "boolean", ["string", "integer"], ["null", "number", "string"]])}
        if self.maybe(0.4):
            self.add_number(s, 0)
        if self.maybe(0.4):
            self.add_string(s, 0)
        return self.r.choice([s, s, s, {"enum": [self.value(0) for _ in range(5)]}])

    def add_combination(self, s, depth):
        r = self.r
        keyword = r.choice(["allOf", "anyOf", "oneOf", "not", "if"])
        if keyword == "not":
            s["not"] = self.schema(depth - 1)
        elif keyword == "if":
            s["if"] = self.schema(depth - 1)
            for branch in ["then", "else"]:
                if self.maybe(0.7):
                    s[branch] = self.schema(depth - 1)
        else:
            s[keyword] = [self.schema(depth - 1) for _ in range(r.randrange(1, 4))]

    def root(self):
        s = self.schema(self.r.choice([1, 2, 2, 3]))
        if not isinstance(s, dict):
            s = {"allOf": [s]}
        if "#/$defs" in show(s):
            s["$defs"] = {"d%d" % i: {"type": self.r.choice(["object", "array", "string"]), "items": {"$ref": "#/$defs/d0"},
                                      "additionalProperties": {"$ref": "#/$defs/d1"}} for i in range(3)}
        return s

    # An instance that looks at the schema, so that some are valid and some nearly.
    def instance(self, s, root, depth=4):
        r = self.r
        if not isinstance(s, dict) or depth == 0 or self.maybe(0.1):
            return self.value(2)
        if "$ref" in s:
            return self.instance(root["$defs"][s["$ref"][-2:]], root, depth - 1)
        if "const" in s and self.maybe(0.9):
            return s["const"]
        if s.get("enum") and self.maybe(0.9):
            return r.choice(s["enum"])
        for keyword in ["allOf", "anyOf", "oneOf"]:
            if keyword in s and self.maybe(0.4):
                return self.instance(r.choice(s[keyword]), root, depth - 1)
        for keyword in ["then", "else", "if"]:
            if keyword in s and self.maybe(0.3):
                return self.instance(s[keyword], root, depth - 1)
        kind = s.get("type") or ("object" if {"properties", "required", "patternProperties"} & set(s) else
                                 "array" if {"items", "prefixItems", "contains"} & set(s) else None)
        kind = r.choice(kind) if isinstance(kind, list) else kind
        if kind == "object":
            keys = [k for k in {**s.get("properties", {}), **{k: 1 for k in s.get("required", [])}} if self.maybe(0.7)]
            if self.maybe(0.3):
                keys.append(r.choice(KEYS))
            r.shuffle(keys)
            rest = s.get("additionalProperties", s.get("unevaluatedProperties", True))
            return {k: self.instance(s.get("properties", {}).get(k, rest), root, depth - 1) for k in keys}
        if kind == "array":
            prefix = s.get("prefixItems", [])
            n = r.randrange(4)
            rest = [s[k] for k in ["items", "contains", "unevaluatedItems"] if k in s] or [True]
            return [self.instance(prefix[i] if i < len(prefix) else r.choice(rest), root, depth - 1) for i in range(n)]
        if kind == "string":
            return r.choice(TEXTS)
        if kind in ("number", "integer"):
            return self.number()
        if kind == "null":
            return None
        if kind == "boolean":
            return r.choice([True, False])
        return self.value(2)


class Encoder(json.JSONEncoder):
    def iterencode(self, o, _one_shot=False):
        return super().iterencode(convert(o), _one_shot)


class Spelled(float):
    """A decimal as it was written."""

    def __new__(cls, text):
        self = super().__new__(cls, text)
        self.text = text
        return self

    def __repr__(self):
        return self.text


def convert(o):
    if isinstance(o, decimal.Decimal):
        return Spelled(str(o))
    if isinstance(o, dict):
        return {k: convert(v) for k, v in o.items()}
    return [convert(v) for v in o] if isinstance(o, list) else o


def without_zeros(o):
    if isinstance(o, decimal.Decimal):
        return o.to_integral_value() if o == o.to_integral_value() else o
    if isinstance(o, dict):
        return {k: without_zeros(v) for k, v in o.items()}
    return [without_zeros(v) for v in o] if isinstance(o, list) else o


def show(o):
    # The pure encoder asks repr of floats.
    return "".join(json.encoder._make_iterencode({}, json.JSONEncoder().default, json.encoder.encode_basestring, None, lambda v: repr(v),
                                                 ":", ",", False, False, False)(convert(o), 0))


def make_case(seed, instances):
    g = Generator(seed)
    schema = g.root()
    text = show(schema)
    validator = Validator(read(text), format_checker=Validator.FORMAT_CHECKER)
    tests = []
    for _ in range(instances):
        instance = g.instance(schema, schema)
        # Items that are all different have one spelling, integers that of digits alone.
        instance = show(without_zeros(instance) if "uniqueItems" in text else instance)
        tests.append((instance, is_valid(validator, instance)))
    return text, validator, tests


def write(count):
    for seed in range(count):
        text, _, tests = make_case(seed, 10)
        print('["random",%s,%s]' % (text, show([list(t) for t in dict.fromkeys(tests)])))


def check(program, count, first_seed):
    run = subprocess.Popen(program.split(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    refused, times = {}, []
    n = dict.fromkeys(["schemas", "instances", "valid", "documents", "unfinished", "empty", "wrong"], 0)
    for seed in range(first_seed, first_seed + count):
        text, validator, tests = make_case(seed, 40)
        run.stdin.write("[%s,%s,10,%d]\n" % (text, show([t[0] for t in tests]), seed))
        run.stdin.flush()
        answer = json.loads(run.stdout.readline())
        times.append((answer["us"], seed))
        n["schemas"] += 1
        if "refused" in answer:
            message = answer["refused"]
            if "no text matches" in message:
                n["empty"] += 1
                for instance, valid in tests:
                    if valid:
                        n["wrong"] += 1
                        print("seed %d: %s is valid, but: %s\n  %s" % (seed, instance, message, text))
            else:
                kind = re.sub(r"^#\S*: ", "", message)
                refused[kind] = refused.get(kind, 0) + 1
            continue
        for (instance, valid), taken in zip(tests, answer["taken"]):
            n["instances"] += 1
            n["valid"] += valid
            if taken != valid:
                n["wrong"] += 1
                print("seed %d: %s is %s, but it is %staken\n  %s" % (seed, instance, "valid" if valid else "invalid", "" if taken else "not ", text))
        for document in answer["documents"]:
            n["documents"] += document is not None
            n["unfinished"] += document is None
            if document is not None and not is_valid(validator, document):
                n["wrong"] += 1
                print("seed %d: wrote %s\n  %s" % (seed, document, text))
    times.sort()
    print(", ".join("%d %s" % (v, k) for k, v in n.items()))
    print("refused: %d: %s" % (sum(refused.values()), "; ".join("%s %d" % i for i in sorted(refused.items(), key=lambda i: -i[1]))))
    print("compiling: median %.1f ms, 99 of 100 within %.1f ms, longest %.1f ms (seed %d)" % (
        times[len(times) // 2][0] / 1e3, times[len(times) * 99 // 100][0] / 1e3, times[-1][0] / 1e3, times[-1][1]))
    return n["wrong"] == 0


if __name__ == "__main__":
    sys.setrecursionlimit(20000)  # documents of schemas that refer to themselves are deep
    if sys.argv[1] == "--write":
        write(int(sys.argv[2]))
    else:
        sys.exit(not check(sys.argv[1], int((sys.argv + ["1000"])[2]), int((sys.argv + ["", "1"])[3] if len(sys.argv) > 3 else 1)))
