"""Helpers of the make_*.py scripts: a GGUF rewritten in float32, and llama-cpp-python with every logit in reach."""
import hashlib
import json
import os

import gguf
import llama_cpp
import numpy as np

F32, F16 = llama_cpp.GGML_TYPE_F32, llama_cpp.GGML_TYPE_F16


def write_float32(path, out):
    """Copies a GGUF with every weight dequantised, so that the engine multiplies in float32 from the same values."""
    if os.path.exists(out):
        return out
    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(out, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = 0 if name == "general.file_type" else field.contents()
        writer.add_key_value(name, value, field.types[0], field.types[1] if len(field.types) > 1 else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.dequantize(tensor.data, tensor.tensor_type))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def round_all(values):
    return [round(float(v), 5) for v in values]


class Engine:
    """One model. `kv` is the type of both halves of the cache; attention is the engine's plain one, not the fused."""

    def __init__(self, path, kv, context=1024, threads=2):
        self.llama = llama_cpp.Llama(path, n_ctx=context, n_batch=512, n_ubatch=512, n_threads=threads,
                                     n_threads_batch=threads, type_k=kv, type_v=kv, flash_attn=False,
                                     logits_all=True, verbose=False)

    def tokenize(self, text, special=False):
        return self.llama.tokenize(text.encode(), add_bos=False, special=special)

    def text(self, ids):
        return self.llama.detokenize(ids, special=True).decode(errors="replace")

    def logits(self, ids):
        """Logits [len(ids)][vocabulary] float32 of a sequence in an empty cache, in batches of at most 512 tokens."""
        self.llama.reset()
        self.llama.eval(ids)
        return self.llama.scores[:len(ids)].copy()

    def greedy(self, ids, count):
        """The best token, appended, `count` times. End-of-text tokens are tokens like any other."""
        self.llama.reset()
        self.llama.eval(ids)
        out = {"ids": [], "logits": [], "second_ids": [], "second_logits": []}
        for _ in range(count):
            row = self.llama.scores[self.llama.n_tokens - 1]
            second, first = np.argsort(row, kind="stable")[-2:]
            out["ids"].append(int(first))
            out["logits"].append(row[first])
            out["second_ids"].append(int(second))
            out["second_logits"].append(row[second])
            self.llama.eval([int(first)])
        out["logits"], out["second_logits"] = round_all(out["logits"]), round_all(out["second_logits"])
        return out


def compare(name, one, other):
    """Prints how far two greedy runs agree, and the smallest lead on the way there."""
    n = next((i for i, pair in enumerate(zip(one["ids"], other["ids"])) if pair[0] != pair[1]), len(one["ids"]))
    lead = [a - b for a, b in zip(one["logits"], one["second_logits"])]
    error = max((abs(a - b) for a, b in list(zip(one["logits"], other["logits"]))[:n]), default=0.0)
    print(f"{name:16} same {n:2} tokens, smallest lead {min(lead):.4f}, lead at the split "
          f"{lead[n] if n < len(lead) else float('nan'):.4f}, largest logit difference before it {error:.4f}")


def dump(path, head, key, rows):
    """JSON with one line a field of `head` and, in `key`, one line a field of each row."""
    fields = [json.dumps(k) + ": " + json.dumps(v) for k, v in head.items()]
    objects = ["{\n " + ",\n ".join(json.dumps(k) + ": " + json.dumps(v) for k, v in row.items()) + "\n}"
               for row in rows]
    with open(path, "w") as file:
        file.write("{\n" + ",\n".join(fields + [json.dumps(key) + ": [" + ", ".join(objects) + "]"]) + "\n}\n")
