"""Writes dequant.bin: blocks of every supported weight format and the float32 values they stand for; and
dequant_hashes.txt: hashes of the values of many random blocks.

Oracles: `gguf.dequantize` of the PyPI package gguf, and the functions of libggml-base.so, which llama-cpp-python has
(gguf 0.19.0 and llama-cpp-python 0.3.36 made the committed files). Where a format is in both, they agree to the bit.
README.md has the layouts.

    python make_dequant.py site-packages/llama_cpp/lib/libggml-base.so
"""
import ctypes
import hashlib
import random
import struct
import sys

import numpy as np
import gguf
from gguf import GGMLQuantizationType as T

Q2_0 = 42  # not in gguf 0.19.0
SIZES = {**{int(kind): size for kind, size in gguf.GGML_QUANT_SIZES.items()}, Q2_0: (64, 18)}
NAMES = {**{int(kind): kind.name for kind in T}, Q2_0: "Q2_0"}

# Per format: blocks to write, and the byte offsets of the float16 fields in a block (scale first, then minimum).
FORMATS = [
    (T.F32, 48, []),
    (T.F16, 48, [0]),
    (T.BF16, 48, []),
    (T.Q4_0, 14, [0]),
    (T.Q4_1, 14, [0, 2]),
    (T.Q5_0, 14, [0]),
    (T.Q5_1, 14, [0, 2]),
    (T.Q8_0, 14, [0]),
    (T.Q2_K, 14, [80, 82]),
    (T.Q3_K, 14, [108]),
    (T.Q4_K, 14, [0, 2]),
    (T.Q5_K, 14, [0, 2]),
    (T.Q6_K, 14, [208]),
    (T.IQ4_NL, 14, [0]),
    (T.IQ4_XS, 14, [0]),
    (T.MXFP4, 14, []),
    (T.NVFP4, 14, []),
    (T.Q1_0, 14, [0]),
    (Q2_0, 14, [0]),
    (T.TQ1_0, 4, [52]),
    (T.TQ2_0, 4, [64]),
    (T.IQ1_S, 4, [0]),
    (T.IQ1_M, 4, []),
    (T.IQ2_XXS, 4, [0]),
    (T.IQ2_XS, 4, [0]),
    (T.IQ2_S, 4, [0]),
    (T.IQ3_XXS, 4, [0]),
    (T.IQ3_S, 4, [0]),
]

# Formats of dequant_hashes.txt: random blocks have every entry of a codebook.
HASHED = [row for row in FORMATS if NAMES[row[0]][:2] in ("IQ", "TQ", "NV") or NAMES[row[0]] in ("Q1_0", "Q2_0")]
HASHED_BLOCKS = 1024

# Float16 patterns that an unpacker may get wrong: zeros, denormals at both ends, the smallest normal number, the
# largest number, one; each with both signs. The order is such that block i takes entry i and its minimum entry i + 3.
HALVES = [0x3C00, 0x0001, 0x83FF, 0x0000, 0x8000, 0x0400, 0x7BFF, 0xFBFF, 0xBC00, 0x03FF]
FLOATS = [0x00000000, 0x80000000, 0x00000001, 0x807FFFFF, 0x00800000, 0x7F7FFFFF, 0xFF7FFFFF, 0x3F800000]
BRAINS = [0x0000, 0x8000, 0x0001, 0x807F, 0x0080, 0x7F7F, 0xFF7F, 0x3F80]
# MXFP4 exponents: the two denormal ones, the smallest normal, one, and 252, the last that cannot overflow.
EXPONENTS = [127, 0, 1, 2, 252, 126, 128, 120, 130, 100, 3]


def random_half(rng):
    """A float16 of the size that real scales have: 2^-14 .. 2^1, any sign."""
    return rng.randrange(2) << 15 | rng.randrange(1, 17) << 10 | rng.randrange(1024)


def dequantize(library, raw, kind):
    """Float32 values of whole blocks."""
    n_elements, n_bytes = SIZES[kind]
    blocks = np.frombuffer(raw, dtype=np.uint8).reshape(-1, n_bytes)
    by_library = np.zeros(len(blocks) * n_elements, dtype=np.float32)
    name = NAMES[kind].replace("_k", "_K") if NAMES[kind].endswith("_K") else NAMES[kind].lower()
    function = getattr(library, "dequantize_row_" + name.replace("Q", "q"), None)
    if function:
        function(raw, by_library.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(by_library.size))
    if kind in (T.Q1_0, Q2_0):
        return by_library
    values = gguf.dequantize(blocks, T(kind)).astype(np.float32).reshape(-1)
    assert not function or (values.view(np.uint32) == by_library.view(np.uint32)).all(), kind
    return values


def random_bytes(seed, count):
    """As tests/test_dtype.c makes them."""
    out, state = bytearray(count), seed
    for i in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        out[i] = state >> 56
    return out


def hashed_blocks(kind, half_offsets):
    """Random bytes, but scales below 2 (IQ1_M: the last byte has a scale's highest bits, too)."""
    size = SIZES[kind][1]
    raw = random_bytes(int(kind), HASHED_BLOCKS * size)
    for offset in [offset + 1 for offset in half_offsets] or [size - 1]:
        for at in range(offset, len(raw), size):
            raw[at] &= 0xBF
    return bytes(raw)


def make_block(rng, kind, index, half_offsets):
    size = SIZES[kind][1]
    if kind == T.F32:
        bits = FLOATS[index] if index < len(FLOATS) else \
            rng.randrange(2) << 31 | rng.randrange(100, 150) << 23 | rng.randrange(1 << 23)
        return struct.pack("<I", bits)
    if kind == T.BF16:
        bits = BRAINS[index] if index < len(BRAINS) else \
            rng.randrange(2) << 15 | rng.randrange(100, 150) << 7 | rng.randrange(1 << 7)
        return struct.pack("<H", bits)

    # Two blocks have every payload bit clear or set (all nibbles, high bits and sub-scales extreme); the rest is random.
    block = bytearray(rng.randbytes(size))
    if index in (11, 12):
        block = bytearray([0x00 if index == 11 else 0xFF]) * size
    for which, offset in enumerate(half_offsets):
        special = index + 3 * which
        bits = HALVES[special] if special < len(HALVES) else random_half(rng)
        block[offset:offset + 2] = struct.pack("<H", bits)
    if kind == T.MXFP4:
        block[0] = EXPONENTS[index] if index < len(EXPONENTS) else rng.randrange(110, 140)
    return bytes(block)


def write_blocks(library, file):
    file.write(b"DQV1" + struct.pack("<I", len(FORMATS)))
    for kind, n_blocks, half_offsets in FORMATS:
        rng = random.Random(f"dequant {NAMES[kind]}")
        n_elements, n_bytes = SIZES[kind]
        raw = b"".join(make_block(rng, kind, i, half_offsets) for i in range(n_blocks))
        values = dequantize(library, raw, kind)
        assert values.size == n_blocks * n_elements and np.isfinite(values).all(), kind
        file.write(struct.pack("<4I", int(kind), n_blocks, n_bytes, n_elements))
        file.write(raw + b"\0" * (-len(raw) % 4))
        file.write(values.astype("<f4").tobytes())


def main():
    library = ctypes.CDLL(sys.argv[1])
    with open("dequant.bin", "wb") as file:
        write_blocks(library, file)
    with open("dequant_hashes.txt", "w") as file:
        for kind, _, half_offsets in HASHED:
            values = dequantize(library, hashed_blocks(kind, half_offsets), kind)
            assert np.isfinite(values).all(), kind
            file.write(f"{int(kind)} {hashlib.sha256(values.astype('<f4').tobytes()).hexdigest()}\n")


if __name__ == "__main__":
    main()
