"""Writes smollm2_greedy.json, smollm2_top20.json and smollm2_perplexity.json: what another engine makes of SmolLM2.

    python make_smollm2.py SmolLM2-135M-Instruct.Q4_1.gguf SCRATCH_DIR

README.md has the protocol, the fields and the versions.
"""
import math
import os
import sys

import llama_cpp
import numpy as np

from engine import F16, F32, Engine, compare, dump, round_all, sha256, write_float32

HERE = os.path.dirname(os.path.abspath(__file__))
STEPS = 64
WINDOW = 512
SYSTEM = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"

# name, text, whether the text of special tokens stands for the tokens
PROMPTS = [
    ("one_token", "Hello", False),
    ("prose", "The train left the station at dawn, and by noon", False),
    ("facts", "The first man to walk on the Moon was", False),
    ("python", "def is_even(n):\n", False),
    ("c", "#include <stdio.h>\n\nint main(void)\n{\n", False),
    ("list", "Shopping list:\n- 2 apples\n- 1 loaf of bread\n-", False),
    ("digits", "2 4 6 8 10 12 14 16 18 20", False),
    ("json", "{\"name\": \"Ada Lovelace\", \"born\": 1815, \"fields\": [\"mathematics\",", False),
    ("unicode", "Bonjour \u2192 Hello\nMerci \u2192 Thank you\nAu revoir \u2192", False),
    ("japanese", "\u65e5\u672c\u8a9e: \u3053\u3093\u306b\u3061\u306f = hello \U0001f600\n\u65e5\u672c\u8a9e:", False),
    ("chat", SYSTEM + "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n", True),
    ("chat_two_turns", "<|im_start|>system\nYou answer briefly.<|im_end|>\n<|im_start|>user\nWhat is the capital of "
     "Spain?<|im_end|>\n<|im_start|>assistant\nMadrid.<|im_end|>\n<|im_start|>user\nAnd of Germany?<|im_end|>\n"
     "<|im_start|>assistant\n", True),
    ("long", None, False),  # the first 480 tokens of text_en.txt
]
TOP_PROMPTS = ("prose", "python", "chat")


def nll(logits, targets):
    """Minus the natural logarithm of each target's probability; softmax in float64."""
    wide = logits.astype(np.float64)
    peak = wide.max(axis=1)
    return peak + np.log(np.exp(wide - peak[:, None]).sum(axis=1)) - wide[np.arange(len(targets)), targets]


def perplexity(engine, ids):
    """Scores the second half of each whole window; [windows][WINDOW / 2] in nats."""
    rows = []
    for start in range(0, len(ids) - WINDOW + 1, WINDOW):
        window = ids[start:start + WINDOW]
        rows.append(nll(engine.logits(window)[WINDOW // 2 - 1:-1], window[WINDOW // 2:]))
    return np.array(rows)


def print_distance(exact, engine, ids):
    """How far an engine's logits are from the exact ones, over the scored positions of every window."""
    square, kl, same = [], [], []
    for start in range(0, len(ids) - WINDOW + 1, WINDOW):
        p, q = (e.logits(ids[start:start + WINDOW])[WINDOW // 2 - 1:-1].astype(np.float64) for e in (exact, engine))
        square.append(((p - q) ** 2).mean())
        same.append((p.argmax(axis=1) == q.argmax(axis=1)).mean())
        p, q = (x - x.max(axis=1, keepdims=True) for x in (p, q))
        p, q = (x - np.log(np.exp(x).sum(axis=1, keepdims=True)) for x in (p, q))
        kl.append((np.exp(p) * (p - q)).sum(axis=1).mean())
    print(f"  against float32: rms of logits {np.sqrt(np.mean(square)):.5f}, mean KL {np.mean(kl):.6f}, "
          f"same best token {np.mean(same):.4f}")


def main():
    path, scratch = sys.argv[1:3]
    wide = write_float32(path, os.path.join(scratch, "smollm2-f32.gguf"))
    with open(os.path.join(HERE, "text_en.txt"), encoding="utf-8", newline="") as file:
        text = file.read()
    variants = [("float32", wide, F32), ("float32_kv_f16", wide, F16), ("native", path, F32),
                ("native_kv_f16", path, F16)]
    cases = [{"name": n, "text": t, "parse_special": s} for n, t, s in PROMPTS]
    tops = [{"name": n} for n in TOP_PROMPTS]
    scores = []
    exact = Engine(wide, F32)
    for variant, file, kv in variants:
        engine = exact if variant == "float32" else Engine(file, kv)
        text_ids = engine.tokenize(text)
        nlls = perplexity(engine, text_ids)
        scores.append({"variant": variant, "perplexity": math.exp(nlls.mean()),
                       "nll_sums": [float(s) for s in nlls.sum(axis=1)],
                       "perplexity_255": math.exp(nlls[:, 1:].mean()),
                       "nll_sums_255": [float(s) for s in nlls[:, 1:].sum(axis=1)]})
        if variant == "float32":
            scores[-1]["token_nll"] = [round_all(row) for row in nlls]
        print(variant, "perplexity", scores[-1]["perplexity"])
        print_distance(exact, engine, text_ids)
        if variant not in ("float32", "native_kv_f16"):
            continue
        for case in cases:
            case["prompt_ids"] = (text_ids[:480] if case["text"] is None
                                  else engine.tokenize(case["text"], case["parse_special"]))
            case[variant] = engine.greedy(case["prompt_ids"], STEPS)
            print(case["name"], repr(engine.text(case[variant]["ids"])))
        for top in tops:
            top["prompt_ids"] = next(c["prompt_ids"] for c in cases if c["name"] == top["name"])
            row = engine.logits(top["prompt_ids"])[-1]
            best = np.argsort(-row, kind="stable")[:20]
            top[variant] = {"ids": best.tolist(), "logits": round_all(row[best])}
    for case in cases:
        compare(case["name"], case["float32"], case["native_kv_f16"])
    head = {"model_sha256": sha256(path), "engine": "llama-cpp-python " + llama_cpp.__version__}
    dump(os.path.join(HERE, "smollm2_greedy.json"), head, "cases", cases)
    dump(os.path.join(HERE, "smollm2_top20.json"), head, "cases", tops)
    dump(os.path.join(HERE, "smollm2_perplexity.json"),
         {**head, "text": "text_en.txt", "text_sha256": sha256(os.path.join(HERE, "text_en.txt")), "window": WINDOW,
          "first_scored": WINDOW // 2, "ids": text_ids}, "variants", scores)


if __name__ == "__main__":
    main()
