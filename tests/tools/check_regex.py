"""Compares this project's regular expressions with those of the tokenizers library (Oniguruma) on random patterns and texts.

    pip install tokenizers==0.23.3
    python tests/tools/check_regex.py [--count 20000] [--seed 1]

Patterns are made of what src/text/regex.h lists. Each is tried on texts of a few characters that it tells apart, and texts are
cut at the matches: pieces must be the same, forward and in two passes. Patterns that the library refuses must be refused here
where they are not listed as taken all the same. Needs a C compiler. Prints the differences, and how many were compared.
"""
import argparse
import os
import random
import struct
import subprocess
import sys

from tokenizers import Regex, pre_tokenizers

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LETTERS = list("aabbcAB19_ \n'-.,") + ["é", "漢", "ア", "٣", "\u0301", "\u00a0", "\r", "\t", "K", "ſ", "½", "𝐀", "\u200d"]
ATOMS = ("a b c a b A . \\s \\S \\d \\D \\w \\W \\p{L} \\p{N} \\P{L} \\p{Lu} \\p{^Ll} \\p{Han} \\p{katakana} \\p{Latin} \\p{Greek} "
         "\\p{Alpha} \\p{Punct} \\n ' [ab] [^a] [a-c] [^\\s\\p{L}] [\\p{L}&&[^a]] [a-c&&b-z] [[:alpha:]] [[:^digit:]\\s] [\\p{L}&&\\p{Latin}] "
         "[[:upper:][:punct:]] [^[a-b][:space:]] [x-z--b] [\\r\\n] [[:word:]&&[^_]] [[:alnum:]] [[:graph:]] [[:print:]] [[:cntrl:]] "
         "[[:blank:]] [[:xdigit:]] [[:lower:]] [[:ascii:]]").split()
PLACES = "^ $ \\A \\z \\Z \\b \\B \\b \\B".split()
COUNTS = "* + ? *? +? ?? {2} {1,2} {2,} {,2} {1,3}? {0,1}".split()
POSSESSIVE = "++ *+ ?+".split()


def build_program():
    program = os.path.join(ROOT, "build", "check_regex")
    os.makedirs(os.path.dirname(program), exist_ok=True)
    sources = ["tests/tools/check_regex.c", "src/os/os.c", "src/os/os_files.c"]
    for folder in ("src/text", "src/base"):
        sources += [f"{folder}/{name}" for name in os.listdir(os.path.join(ROOT, folder))
                    if name.endswith(".c") and (folder == "src/base" or name.startswith(("regex", "unicode", "pretokenizer")))]
    subprocess.run(["cc", "-std=c17", "-D_GNU_SOURCE", "-O2", "-g", "-Isrc", *sources,
                    "-o", program, "-lpthread", "-lm"], cwd=ROOT, check=True)
    return program


def make_pattern(rng, depth=0, behind=False, ahead=True):
    def atom():
        roll = rng.random()
        if depth < 2 and roll < 0.18:
            return rng.choice(["(?:%s)", "(%s)", "(?:%s)", "(?i:%s)"]) % make_pattern(rng, depth + 1, behind, ahead)
        if depth < 2 and roll < 0.26 and ahead and not behind:
            return rng.choice(["(?=%s)", "(?!%s)"]) % make_pattern(rng, depth + 1, behind, ahead)
        if depth < 2 and roll < 0.32 and not behind:
            return rng.choice(["(?<=%s)", "(?<!%s)"]) % make_pattern(rng, depth + 2, True, False)
        if roll < 0.4:
            return rng.choice(PLACES)
        return rng.choice(ATOMS)

    def part():
        text = atom()
        roll = rng.random()
        looks = text.startswith(("(?=", "(?!", "(?<")) or text in PLACES
        if roll < 0.35 and not looks:
            text += rng.choice(COUNTS)
        elif roll < 0.42 and not text.startswith("(") and not looks:
            text += rng.choice(POSSESSIVE)
        return text

    return "|".join("".join(part() for _ in range(rng.choice([1, 1, 2, 2, 3] if depth < 1 else [1, 1, 2])))
                    for _ in range(rng.choice([1, 1, 2, 3] if depth < 1 else [1, 1, 2])))


def cut_here(program, cases, *args):
    data = b"".join(struct.pack("<I", len(part)) + part for case in cases for part in (c.encode() for c in case))
    run = subprocess.run([program, *args], input=data, capture_output=True)
    if run.returncode:
        sys.exit(f"the program fails: {run.stderr.decode(errors='replace')[:2000]}")
    return run.stdout.decode(errors="replace").split("\n")[:-1]


def cut_there(pattern, text):
    try:
        pieces = pre_tokenizers.Split(Regex(pattern), "isolated").pre_tokenize_str(text)
    except BaseException as error:  # the library panics where a search takes too long
        return f"refused {error}"
    ends, end = [], 0
    for piece, _ in pieces:
        end += len(piece.encode())
        ends.append(str(end))
    return " ".join(ends)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    program = build_program()
    cases = []
    for _ in range(options.count):
        pattern = make_pattern(rng)
        pool = rng.sample(LETTERS, 5)
        cases += [(pattern, "".join(rng.choice(pool) for _ in range(rng.choice([1, 3, 8, 20, 40])))) for _ in range(3)]
    forward, two = cut_here(program, cases), cut_here(program, cases, "two")
    same = refused = differ = taken = 0
    for (pattern, text), a, b in zip(cases, forward, two):
        there = cut_there(pattern, text)
        if a.startswith("refused") or there.startswith("refused"):
            refused += a.startswith("refused")
            taken += not a.startswith("refused")
            if a.startswith("refused") and "too large" not in a and not there.startswith("refused") and refused < 10:
                print("refused here:", repr(pattern), a)
            continue
        if a.rsplit(" ", 1)[0] != there or b.rsplit(" ", 1)[0] != there:
            differ += 1
            if differ <= 20:
                print(f"{pattern!r} on {text!r}: {a} | {b}, expected {there}")
        else:
            same += 1
    print(f"{same} texts are cut alike, {differ} differ; {refused} with patterns that are refused here, {taken} there alone")
    sys.exit(differ > 0)


if __name__ == "__main__":
    main()
