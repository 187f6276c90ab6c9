"""Writes dequant.bin: blocks of every supported weight format and the float32 values they stand for.

Oracle: `gguf.dequantize` of the PyPI package gguf (0.19.0 made the committed file). README.md has the layout.

    python make_dequant.py [dequant.bin]
"""
import random
import struct
import sys

import numpy as np
import gguf
from gguf import GGMLQuantizationType as T

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
]

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


def make_block(rng, kind, index, half_offsets):
    size = gguf.GGML_QUANT_SIZES[kind][1]
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


def main():
    out = [b"DQV1", struct.pack("<I", len(FORMATS))]
    for kind, n_blocks, half_offsets in FORMATS:
        rng = random.Random(f"dequant {kind.name}")
        n_elements, n_bytes = gguf.GGML_QUANT_SIZES[kind]
        raw = b"".join(make_block(rng, kind, i, half_offsets) for i in range(n_blocks))
        values = gguf.dequantize(np.frombuffer(raw, dtype=np.uint8).reshape(n_blocks, n_bytes), kind)
        assert values.dtype == np.float32 and values.size == n_blocks * n_elements and np.isfinite(values).all(), kind
        out.append(struct.pack("<4I", int(kind), n_blocks, n_bytes, n_elements))
        out.append(raw + b"\0" * (-len(raw) % 4))
        out.append(values.astype("<f4").tobytes())
    with open(sys.argv[1] if len(sys.argv) > 1 else "dequant.bin", "wb") as file:
        file.write(b"".join(out))


if __name__ == "__main__":
    main()
