"""Perplexity of a text by llama-cpp-python, with every weight dequantised to float32, for comparison with
`worker-orcd perplexity MODEL --file TEXT`, which scores the same tokens.

    check_perplexity.py MODEL.gguf TEXT SCRATCH_FOLDER

Windows of 512 tokens, the second half of each scored; the first token of each is BOS where the vocabulary wants one.
"""
import os
import sys

import gguf
import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "vectors"))
import engine  # noqa: E402

WINDOW = 512


def main():
    path, text, scratch = sys.argv[1:]
    copy = engine.write_float32(path, os.path.join(scratch, os.path.basename(path) + ".f32"))
    fields = gguf.GGUFReader(path).fields
    wants_bos = "tokenizer.ggml.add_bos_token" in fields and fields["tokenizer.ggml.add_bos_token"].contents()
    model = engine.Engine(copy, engine.F32)
    ids = model.llama.tokenize(open(text, "rb").read(), add_bos=bool(wants_bos), special=False)
    total, scored = 0.0, 0
    for start in range(0, len(ids) // WINDOW * WINDOW, WINDOW):
        window = ids[start:start + WINDOW]
        if wants_bos:
            window[0] = model.llama.token_bos()
        logits = model.logits(window)[WINDOW // 2 - 1:WINDOW - 1].astype(np.float64)
        most = logits.max(axis=1)
        nll = most + np.log(np.exp(logits - most[:, None]).sum(axis=1)) - logits[np.arange(WINDOW // 2),
                                                                                 window[WINDOW // 2:]]
        total, scored = total + nll.sum(), scored + len(nll)
        print(f"window {start // WINDOW}: {nll.sum():.4f}", flush=True)
    print(f"{len(ids)} tokens, {scored} scored, perplexity {np.exp(total / scored):.4f}")


if __name__ == "__main__":
    main()
