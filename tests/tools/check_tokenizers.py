"""Compares this project's tokenizers with the upstream libraries on random texts, for whole published vocabularies.

    pip install tokenizers==0.23.3 sentencepiece==0.2.3 protobuf gguf numpy
    python tests/tools/check_tokenizers.py [--count 10000] [--seed 1] FOLDER [NAME...]

FOLDER holds what is to be compared, under these names (others are ignored): NAME/tokenizer.json of gptoss, llama3_1, qwen3,
llama2, gemma3; gpt-2.gguf, phi-3.gguf, smollm2.gguf, qwen2.5.gguf, gemma3.gguf. A tokenizer.json is read as it is, and again
after it was written as the GGUF that a converter would make of it. Needs a C compiler. Prints one line for each.
"""
import argparse
import json
import os
import random
import struct
import subprocess
import sys

import gguf
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PARSE_SPECIAL = 2
PRE = {"gptoss": "gpt-4o", "llama3_1": "llama-bpe", "qwen3": "qwen2"}
LETTERS = (list("aabcdxyABS'stremvldlSTREVMLD   \n\r\t0123456789.,!?-/_<|>$#\"(){}[]\\=+*&%@~^:;`") +
           list("é ÀſK١½Ⅷ漢字한글カナあ🙂👨‍👩‍👧é̀नमस्तेمرحباשלוםไทย\u00a0\u2003\u3000\u0085\u200b\u200d。，ªʰǅ\ufffdﬁＡΩйÅ\u0344\u1100\u1161\u11a8") +
           ["\U0001D400", "\U0001F3FD", "\U0001F1E9", "\U0001F1EA", "\u0001", "\u0000", "\u2581"])
WORDS = ("the of and to in is you that it he was for on are as with his they at be this from I'll don't we've WON'T "
         "internationalisation Zürich naïve www.example.com int main(void) return 12345 3.14 x=1; ... !!! --- "
         "これは テスト です 你好世界 привет мир שלום").split()


def build_program():
    program = os.path.join(ROOT, "build", "check_tokenizers")
    os.makedirs(os.path.dirname(program), exist_ok=True)
    sources = ["tests/tools/check_tokenizers.c", "src/os/os.c", "src/os/os_files.c", "src/model/dtype.c", "src/json/json_reader.c"]
    for folder in ("src/text", "src/base"):
        sources += [f"{folder}/{name}" for name in os.listdir(os.path.join(ROOT, folder)) if name.endswith(".c")]
    sources += [f"src/model/{name}" for name in os.listdir(os.path.join(ROOT, "src/model"))
                if name.startswith("gguf") and name.endswith(".c")]
    subprocess.run(["cc", "-std=c17", "-D_GNU_SOURCE", "-O2", "-g", "-fsanitize=address,undefined", "-Isrc", *sources,
                    "-o", program, "-lpthread", "-lm"], cwd=ROOT, check=True)
    return program


def random_text(rng, special):
    size = rng.choice([0, 1, 2, 3, 8, 20, 60, 200])
    kind = rng.random()
    if kind < 0.15:
        pool = rng.sample(LETTERS, 3)
    elif kind < 0.25:
        pool = [" ", "\n", "\r", "a", "\t"]
    elif kind < 0.5:
        return rng.choice(["", " ", "\n"]).join(rng.choice(WORDS) + rng.choice([" ", " ", " ", "  ", "\n", ", ", ". "])
                                               for _ in range(size // 3))
    elif kind < 0.6:
        return "".join(chr(rng.choice([rng.randrange(0x80), rng.randrange(0x3000), rng.randrange(0xD800),
                                       rng.randrange(0xE000, 0x110000)])) for _ in range(size))
    elif kind < 0.7 and special:
        pool = special + WORDS + LETTERS
    else:
        pool = LETTERS
    return "".join(rng.choice(pool) for _ in range(size))


def encode_all(program, path, texts):
    data = b"".join(struct.pack("<I", len(t)) + t for t in (text.encode() for text in texts))
    run = subprocess.run([program, path, str(PARSE_SPECIAL)], input=data, capture_output=True)
    if run.returncode:
        raise RuntimeError(run.stderr.decode(errors="replace")[-2000:].strip())
    lines = run.stdout.decode().split("\n")
    return [[int(x) for x in lines[i].split()] for i in range(0, 2 * len(texts), 2)], \
        [bytes.fromhex(lines[i]).decode() for i in range(1, 2 * len(texts), 2)]


def compare(program, name, path, upstream, count, seed, decoding=True):
    rng = random.Random(seed)
    special = [t.content for t in upstream.get_added_tokens_decoder().values()][:40]
    texts = [random_text(rng, special) for _ in range(count)]
    try:
        found_ids, found_texts = encode_all(program, path, texts)
    except RuntimeError as error:
        print(f"{name}: {error}")
        return
    wrong_ids = wrong_texts = 0
    for text, ids, decoded in zip(texts, found_ids, found_texts):
        expected = upstream.encode(text, add_special_tokens=False).ids
        if ids != expected:
            wrong_ids += 1
            if wrong_ids <= 3:
                print(f"  {name}: {text!r}\n    upstream {expected}\n    here     {ids}")
        elif decoding and decoded != upstream.decode(expected, skip_special_tokens=True):
            wrong_texts += 1
            if wrong_texts <= 3:
                print(f"  {name}: decoding {expected}\n    upstream {upstream.decode(expected)!r}\n    here     {decoded!r}")
    print(f"{name}: {count} texts, {wrong_ids} with other ids, {wrong_texts} decoded otherwise", flush=True)


def write_gguf(folder, name):
    """The vocabulary of a tokenizer.json as a GGUF, in the way of the usual converters."""
    with open(os.path.join(folder, name, "tokenizer.json"), encoding="utf-8") as file:
        data = json.load(file)
    tokens = {i: t for t, i in data["model"]["vocab"].items()}
    kinds = {i: 1 for i in tokens}
    for added in data["added_tokens"]:
        tokens[added["id"]] = added["content"]
        kinds[added["id"]] = 3 if added["special"] else 4
    count = max(tokens) + 1
    merges = [m if isinstance(m, str) else " ".join(m) for m in data["model"]["merges"]]
    path = os.path.join(folder, name + "-made.gguf")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE[name])
    writer.add_token_list([tokens.get(i, f"[PAD{i}]") for i in range(count)])
    writer.add_token_types([kinds.get(i, 5) for i in range(count)])
    writer.add_token_merges(merges)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


class SentencePiece:
    """The sentencepiece library on a GGUF's vocabulary, with the methods of a Tokenizer that are used here."""

    def __init__(self, fields, tokens, kinds):
        proto = sentencepiece_model_pb2.ModelProto()
        for token, kind, score in zip(tokens, kinds, fields["tokenizer.ggml.scores"].contents()):
            unknown = token == "<unk>"
            token = token.replace(" ", "\u2581")  # as the converter found it
            proto.pieces.add(piece=token, score=score, type=2 if unknown else 3 if kind in (2, 3) else kind)
        proto.trainer_spec.model_type = sentencepiece_model_pb2.TrainerSpec.BPE
        proto.trainer_spec.byte_fallback = True
        proto.trainer_spec.unk_id = tokens.index("<unk>")
        proto.normalizer_spec.name = "identity"
        prefix = fields.get("tokenizer.ggml.add_space_prefix")
        proto.normalizer_spec.add_dummy_prefix = prefix.contents() if prefix else True
        proto.normalizer_spec.remove_extra_whitespaces = False
        self.processor = sentencepiece.SentencePieceProcessor()
        self.processor.LoadFromSerializedProto(proto.SerializeToString())

    def get_added_tokens_decoder(self):
        return {}

    def encode(self, text, add_special_tokens):
        self.ids = self.processor.EncodeAsIds(text)
        return self

    def decode(self, ids, skip_special_tokens=True):
        return self.processor.DecodeIds(ids)


def from_gguf(path):
    """The upstream tokenizer for the vocabulary of a GGUF."""
    fields = gguf.GGUFReader(path).fields
    tokens, kinds = (fields["tokenizer.ggml." + key].contents() for key in ("tokens", "token_type"))
    vocab = {t: i for i, t in enumerate(tokens)}
    if fields["tokenizer.ggml.model"].contents() == "llama":
        return SentencePiece(fields, tokens, kinds)
    made = Tokenizer(models.BPE(vocab=vocab, merges=[tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]))
    pre = fields["tokenizer.ggml.pre"].contents()
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if pre == "smollm":
        made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2])
    elif pre == "qwen2":
        made.normalizer = normalizers.NFC()
        pattern = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
                   r"\s+(?!\S)|\s+")
        made.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    else:
        assert pre == "gpt-2", pre
        made.pre_tokenizer = gpt2
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(t, normalized=False, special=True) for t, k in zip(tokens, kinds) if k == 3])
    made.add_tokens([AddedToken(t, normalized=False) for t, k in zip(tokens, kinds) if k == 4])
    return made


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    program = build_program()
    for name in ("gptoss", "llama3_1", "qwen3", "llama2", "gemma3"):
        path = os.path.join(args.folder, name, "tokenizer.json")
        if not os.path.exists(path) or (args.names and name not in args.names):
            continue
        upstream = Tokenizer.from_file(path)
        compare(program, f"{name} tokenizer.json", path, upstream, args.count, args.seed)
        made = os.path.join(args.folder, name + ".gguf")
        if os.path.exists(made):
            # The converter makes control tokens, which give no text, of some that the tokenizer.json calls ordinary.
            compare(program, f"{name}.gguf against its tokenizer.json", made, upstream, args.count, args.seed, False)
        if name in PRE:
            compare(program, f"{name} as GGUF", write_gguf(args.folder, name), upstream, args.count, args.seed)
    for name in ("gpt-2", "smollm2", "qwen2.5", "phi-3", "gemma3"):
        path = os.path.join(args.folder, name + ".gguf")
        if not os.path.exists(path) or (args.names and name not in args.names):
            continue
        upstream = from_gguf(path)
        if upstream:
            compare(program, f"{name}.gguf", path, upstream, args.count, args.seed)


if __name__ == "__main__":
    sys.exit(main())
