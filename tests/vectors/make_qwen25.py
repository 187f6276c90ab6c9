"""Writes qwen25_greedy.json: greedy continuations by another engine of a Qwen2.5 0.5B GGUF.

    python make_qwen25.py qwen2.5-0.5b.gguf SCRATCH_DIR
"""
import os
import sys

import llama_cpp

from engine import F16, F32, Engine, compare, dump, sha256, write_float32

HERE = os.path.dirname(os.path.abspath(__file__))
STEPS = 64

PROMPTS = [
    ("prose", "In the summer of 1911 the river fell so low that", False),
    ("c", "/* Returns the greatest common divisor of a and b. */\nunsigned gcd(unsigned a, unsigned b)\n{\n", False),
    ("chinese", "\u4e2d\u56fd\u7684\u9996\u90fd\u662f", False),
    ("chat", "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nWrite a Python function that "
     "reverses a string.<|im_end|>\n<|im_start|>assistant\n", True),
]


def main():
    path, scratch = sys.argv[1:3]
    wide = write_float32(path, os.path.join(scratch, "qwen25-f32.gguf"))
    cases = [{"name": n, "text": t, "parse_special": s} for n, t, s in PROMPTS]
    for variant, file, kv in (("float32", wide, F32), ("native_kv_f16", path, F16)):
        engine = Engine(file, kv, context=512)
        for case in cases:
            case["prompt_ids"] = engine.tokenize(case["text"], case["parse_special"])
            case[variant] = engine.greedy(case["prompt_ids"], STEPS)
            print(case["name"], repr(engine.text(case[variant]["ids"])))
        del engine
    for case in cases:
        compare(case["name"], case["float32"], case["native_kv_f16"])
    dump(os.path.join(HERE, "qwen25_greedy.json"),
         {"model_sha256": sha256(path), "engine": "llama-cpp-python " + llama_cpp.__version__}, "cases", cases)


if __name__ == "__main__":
    main()
