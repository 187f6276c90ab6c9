#!/usr/bin/env python3
"""Compares random patterns with Python's re, on random texts: what a schema's "pattern" takes.

    python3 tests/tools/check_patterns.py /tmp/sample_schemas [patterns, 3000] [seed, 1]

(sample_schemas.c says how it is built.) Only what ECMA-262 and Python spell alike is drawn; $ becomes \\Z, and sets are
those of ASCII. Exits with 1 where they differ.
"""
import json
import random
import re
import subprocess
import sys

QUANTIFIERS = ["", "", "", "", "*", "+", "?", "{2}", "{1,3}", "{0,1}", "{2,}", "*?", "+?"]
CLASS_PARTS = ["a", "b", "c", "a-c", "\\d", "1", "\\-", "_"]


class Patterns:
    def __init__(self, seed):
        self.r = random.Random(seed)

    def atom(self, depth):
        kind = self.r.randrange(12)
        if kind < 5:
            return self.r.choice("abc")
        if kind == 5:
            return "."
        if kind == 6:
            return self.r.choice(["\\d", "\\w", "\\s", "\\D", "\\W", "\\S"])
        if kind == 7:
            return "[" + self.r.choice(["", "^"]) + "".join(self.r.sample(CLASS_PARTS, self.r.randrange(1, 4))) + "]"
        if kind in (8, 9) and depth:
            return self.r.choice(["(", "(?:"]) + self.alternatives(depth - 1) + ")"
        return self.r.choice(["^", "$"]) if kind == 10 else self.r.choice("ab1")

    def term(self, depth):
        atom = self.atom(depth)
        return atom if atom in "^$" else atom + self.r.choice(QUANTIFIERS)

    def sequence(self, depth, looks):
        s = "".join(self.term(depth) for _ in range(self.r.randrange(5)))
        if looks and self.r.random() < 0.15:
            ahead = self.alternatives(1).replace("^", "")
            s = self.r.choice(["^", "", "a", "b"]) + "(?" + self.r.choice("=!") + ahead + ")" + s
        return s

    def alternatives(self, depth, looks=False):
        return "|".join(self.sequence(depth, looks) for _ in range(self.r.choice([1, 1, 1, 2])))

    def last_group(self, depth):
        """A group that ends the pattern, in which alternatives look ahead."""
        alternatives = []
        for _ in range(self.r.choice([1, 2, 2, 3])):
            s = self.sequence(1, False).replace("^", "")
            if self.r.random() < 0.6:
                ahead = self.alternatives(1).replace("^", "")
                s = self.r.choice(["", "a", "b"]) + "(?" + self.r.choice("=!") + ahead + ")" + s
            if depth and self.r.random() < 0.4:
                s += self.last_group(depth - 1)
            alternatives.append(s)
        end = self.r.choice(["", "", "?", "??", "$", "?$"])
        return self.r.choice(["(", "(?:"]) + "|".join(alternatives) + ")" + end

    def pattern(self):
        if self.r.random() < 0.7:
            return self.alternatives(2, looks=True)
        return self.r.choice(["", "^"]) + self.sequence(1, False).replace("^", "") + self.last_group(2)

    def text(self):
        return "".join(self.r.choice("aabbc1_ -") for _ in range(self.r.randrange(7)))


def main():
    count, seed = (int(a) for a in (sys.argv[2:] + ["3000", "1"][len(sys.argv) - 2:]))
    run = subprocess.Popen([sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    patterns = Patterns(seed)
    compared = refused = wrong = 0
    for _ in range(count):
        pattern = patterns.pattern()
        compiled = re.compile(pattern.replace("$", "\\Z"), re.ASCII)
        texts = [patterns.text() for _ in range(40)]
        run.stdin.write(json.dumps([{"type": "string", "pattern": pattern}, [json.dumps(t) for t in texts], 0, 1]) + "\n")
        run.stdin.flush()
        answer = json.loads(run.stdout.readline())
        if "refused" in answer and "no text matches" not in answer["refused"]:
            refused += 1
            continue
        for text, taken in zip(texts, answer.get("taken", [False] * len(texts))):
            compared += 1
            if taken != bool(compiled.search(text)):
                wrong += 1
                print("%s on %r: %s" % (pattern, text, "taken" if taken else "not taken"))
    print("%d texts compared, %d patterns refused, %d wrong" % (compared, refused, wrong))
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
