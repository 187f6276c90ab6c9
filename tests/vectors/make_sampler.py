"""Logits after the rules of a request, and log-probabilities, as other programs compute them.

    make_sampler.py XLLAMACPP_LIBRARY OUT_FILE

XLLAMACPP_LIBRARY is the xllamacpp.abi3.so of the wheel xllamacpp, whose llama.cpp adds the bias (llama_sampler_init_logit_bias)
and takes frequency and presence penalties off (llama_sampler_init_penalties, with no repetition penalty of its own: there it
would look at drawn tokens alone). The repetition penalty is transformers' RepetitionPenaltyLogitsProcessor on prompt and
output, the log-probabilities are torch.log_softmax in float64.
"""
import ctypes
import json
import random
import sys

import torch
import transformers


class TokenData(ctypes.Structure):
    _fields_ = [("id", ctypes.c_int32), ("logit", ctypes.c_float), ("p", ctypes.c_float)]


class TokenArray(ctypes.Structure):
    _fields_ = [("data", ctypes.POINTER(TokenData)), ("size", ctypes.c_size_t), ("selected", ctypes.c_int64),
                ("sorted", ctypes.c_bool)]


class Bias(ctypes.Structure):
    _fields_ = [("token", ctypes.c_int32), ("bias", ctypes.c_float)]


class Llama:
    def __init__(self, path):
        self.lib = ctypes.CDLL(path)
        for name in "llama_sampler_init_penalties", "llama_sampler_init_logit_bias":
            getattr(self.lib, name).restype = ctypes.c_void_p

    def run(self, sampler, accepted, logits):
        sampler = ctypes.c_void_p(sampler)
        for token in accepted:
            self.lib.llama_sampler_accept(sampler, ctypes.c_int32(token))
        data = (TokenData * len(logits))(*[TokenData(i, v, 0) for i, v in enumerate(logits)])
        array = TokenArray(data, len(logits), -1, False)
        self.lib.llama_sampler_apply(sampler, ctypes.byref(array))
        self.lib.llama_sampler_free(sampler)
        return [v for _, v in sorted((array.data[i].id, array.data[i].logit) for i in range(array.size))]

    def bias(self, biases, logits):
        items = (Bias * len(biases))(*[Bias(t, v) for t, v in biases])
        return self.run(self.lib.llama_sampler_init_logit_bias(len(logits), len(biases), items), [], logits)

    def penalties(self, frequency, presence, drawn, logits):
        f = ctypes.c_float
        last = max(len(drawn), 1)  # tokens that it looks back at
        sampler = self.lib.llama_sampler_init_penalties(len(logits), last, f(1), f(frequency), f(presence))
        return self.run(sampler, drawn, logits)


def repetition(penalty, tokens, logits):
    processor = transformers.RepetitionPenaltyLogitsProcessor(penalty=penalty)
    return processor(torch.tensor([tokens]), torch.tensor([logits], dtype=torch.float32))[0].tolist()


def f32(v):
    return ctypes.c_float(v).value


CASES = [  # name, repetition, presence, frequency, number of biases
    ("nothing", 1, 0, 0, 0),
    ("bias", 1, 0, 0, 5),
    ("presence", 1, 0.75, 0, 0),
    ("frequency", 1, 0, 0.375, 0),
    ("negative presence and frequency", 1, -1.5, -0.25, 0),
    ("presence and frequency", 1, 2, 1.3, 0),
    ("repetition", 1.3, 0, 0, 0),
    ("repetition below 1", 0.7, 0, 0, 0),
    ("bias before repetition", 1.3, 0, 0, 12),
    ("everything", 1.15, 0.6, 0.4, 8),
    ("everything, below", 0.9, -0.6, 1.9, 30),
]


def main():
    llama, out, chance = Llama(sys.argv[1]), [], random.Random(4)
    n_vocab = 61
    for name, r, p, f, n_bias in CASES:
        logits = [f32(chance.gauss(0, 4)) for _ in range(n_vocab)]
        prompt = [chance.randrange(n_vocab) for _ in range(9)]
        few = [chance.randrange(n_vocab) for _ in range(6)]
        drawn = [chance.choice(few) for _ in range(20)]
        biases = sorted((t, f32(chance.uniform(-100, 100) if i % 2 else chance.uniform(-3, 3)))
                        for i, t in enumerate(chance.sample(range(n_vocab), n_bias)))
        v = llama.bias(biases, logits) if biases else logits
        v = repetition(float(r), prompt + drawn, v) if r != 1 else v
        v = llama.penalties(f, p, drawn, v)
        logprobs = torch.log_softmax(torch.tensor(logits, dtype=torch.float64), 0)
        best = torch.sort(logprobs, descending=True, stable=True).indices[:20].tolist()
        out.append({"name": name, "repetition": r, "presence": p, "frequency": f, "bias_tokens": [t for t, _ in biases],
                    "bias": [b for _, b in biases], "prompt": prompt, "drawn": drawn, "logits": logits, "adjusted": v,
                    "logprobs": logprobs.tolist(), "best": best})
    with open(sys.argv[2], "w") as file:
        file.write("[\n" + ",\n".join(json.dumps(c) for c in out) + "\n]\n")


main()
