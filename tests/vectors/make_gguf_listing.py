"""Writes gguf_smollm2.txt: what the gguf package's reader finds in the SmolLM2 GGUF.

    python make_gguf_listing.py MODEL.gguf > gguf_smollm2.txt

A line for each key: its type, and a hash of its value; and for each tensor: format, shape, position, and a hash of its
first row as float32. README.md says what is hashed.
"""
import hashlib
import struct
import sys

import gguf
import numpy as np

T = gguf.GGUFValueType


def pack(kind, value):
    if kind == T.STRING:
        text = value.encode("utf-8", "surrogateescape")
        return struct.pack("<Q", len(text)) + text
    if kind in (T.FLOAT32, T.FLOAT64):
        return struct.pack("<d", value)
    return struct.pack("<q", int(value))


def hash_text(data):
    return hashlib.sha256(data).hexdigest()[:16]


reader = gguf.GGUFReader(sys.argv[1])
for name, field in reader.fields.items():
    if name.startswith("GGUF."):
        continue
    value = field.contents()
    if field.types[0] == T.ARRAY:
        data = b"".join(pack(field.types[1], v) for v in value)
        kind = f"array of {len(value)} {field.types[1].name}"
    else:
        data = pack(field.types[0], value)
        kind = field.types[0].name
    print(f"key {name}: {kind}, {hash_text(data)}")
for t in reader.tensors:
    row = np.ascontiguousarray(t.data if t.data.ndim == 1 else t.data[:1])
    values = gguf.dequantize(row, t.tensor_type).astype("<f4").tobytes()
    shape = " ".join(str(d) for d in t.shape)
    print(f"tensor {t.name}: {t.tensor_type.name}, {shape}, byte {t.data_offset}, {hash_text(values)}")
