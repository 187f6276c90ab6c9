"""Compares this project's tokenizers with the upstream libraries on random texts, for whole published vocabularies.

    pip install tokenizers==0.23.3 sentencepiece==0.2.3 protobuf gguf numpy
    python tests/tools/check_tokenizers.py [--count 10000] [--seed 1] FOLDER [NAME...]

FOLDER holds what is to be compared, under these names (others are ignored): NAME/tokenizer.json of gptoss, llama3_1, qwen3,
llama2, gemma3; gpt-2.gguf, phi-3.gguf, smollm2.gguf, qwen2.5.gguf, gemma3.gguf. A tokenizer.json is read as it is, and again
after it was written as the GGUF that a converter would make of it; a byte-level GGUF as it is, and again as the
tokenizer.json that the upstream library writes of it; Phi-3 also as the tokenizer.json that transformers would make.

The texts: those of tests/vectors/tokenizer, once with and once without the tokens that go in front and behind; a line of
200 KB; bytes that are no UTF-8, for which Python says what decoding gives; and --count random ones. Needs a C compiler.
Prints one line for each.
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
sys.path.insert(0, os.path.join(ROOT, "tests", "vectors", "tokenizer"))
import make_vectors  # noqa: E402

ADD_SPECIAL, PARSE_SPECIAL = 1, 2
FIXED = [text for _, text in make_vectors.TEXTS + make_vectors.HF_TEXTS] + [make_vectors.long_line()]
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
    sources = ["tests/tools/check_tokenizers.c", "src/os/os.c", "src/os/os_files.c", "src/json/json_reader.c"]
    for folder in ("src/text", "src/base"):
        sources += [f"{folder}/{name}" for name in os.listdir(os.path.join(ROOT, folder)) if name.endswith(".c")]
    sources += [f"src/model/{name}" for name in os.listdir(os.path.join(ROOT, "src/model"))
                if name.startswith(("gguf", "dtype")) and name.endswith(".c")]
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


def encode_all(program, path, texts, flags):
    """The ids of texts, given as bytes, and what decoding these gives."""
    data = b"".join(struct.pack("<I", len(t)) + t for t in texts)
    run = subprocess.run([program, path, str(flags)], input=data, capture_output=True)
    if run.returncode:
        raise RuntimeError(run.stderr.decode(errors="replace")[-2000:].strip())
    lines = run.stdout.decode().split("\n")
    return [[int(x) for x in lines[i].split()] for i in range(0, 2 * len(texts), 2)], \
        [bytes.fromhex(lines[i]).decode() for i in range(1, 2 * len(texts), 2)]


def differences(program, name, path, upstream, texts, flags, decoding):
    """How many texts have other ids, and how many are decoded otherwise."""
    found = zip(texts, *encode_all(program, path, [t.encode() for t in texts], flags))
    wrong_ids = wrong_texts = 0
    for text, ids, decoded in found:
        expected = upstream.encode(text, add_special_tokens=bool(flags & ADD_SPECIAL)).ids
        if ids != expected:
            wrong_ids += 1
            if wrong_ids <= 3:
                print(f"  {name}: {text[:500]!r}\n    upstream {expected[:200]}\n    here     {ids[:200]}")
        elif decoding and decoded != upstream.decode(expected, skip_special_tokens=True):
            wrong_texts += 1
            if wrong_texts <= 3:
                print(f"  {name}: decoding {expected}\n    upstream {upstream.decode(expected)!r}\n    here     {decoded!r}")
    return wrong_ids, wrong_texts


def broken_differences(program, path, seed):
    """Bytes that are no UTF-8: decoding must give what Python makes of them."""
    rng = random.Random(seed)
    texts = [bytes(rng.choice([0x41, 0x20, 0x80, 0xBF, 0xC3, 0xE2, 0x82, 0xF0, 0x9F, 0x99, 0xED, 0xFF, 0xC0])
                   for _ in range(rng.randrange(1, 12))) for _ in range(500)]
    _, decoded = encode_all(program, path, texts, 0)
    return sum(t.decode(errors="replace") != d for t, d in zip(texts, decoded))


def compare(program, name, path, upstream, count, seed, decoding=True, outer=True):
    rng = random.Random(seed)
    special = [t.content for t in upstream.get_added_tokens_decoder().values()][:40]
    parse = PARSE_SPECIAL if special else 0
    texts = [random_text(rng, special) for _ in range(count)]
    try:
        fixed = differences(program, name, path, upstream, FIXED, parse, decoding)
        both = differences(program, name, path, upstream, FIXED, ADD_SPECIAL | PARSE_SPECIAL, False)[0] if outer else "not compared"
        broken = broken_differences(program, path, seed)
        random_ids, random_texts = differences(program, name, path, upstream, texts, parse, decoding)
    except RuntimeError as error:
        print(f"{name}: {error}", flush=True)
        return
    print(f"{name}: {len(FIXED)} fixed texts, ids differ {fixed[0]}, with outer tokens {both}, decoded otherwise {fixed[1]}; "
          f"500 broken, decoded otherwise {broken}; {count} random, ids differ {random_ids}, decoded otherwise {random_texts}",
          flush=True)


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


def write_gemma4(folder):
    """Gemma 3's vocabulary in the form of Gemma 4's: the added tokens that are no control tokens are ordinary ones. Returns
    the tokenizer.json, and the GGUF that the converter would make of it."""
    with open(os.path.join(folder, "gemma3", "tokenizer.json"), encoding="utf-8") as file:
        data = json.load(file)
    special = [t for t in data["added_tokens"] if t["special"] and t["content"] in data["model"]["vocab"]]
    data["added_tokens"] = special
    text = json.dumps(data, ensure_ascii=False)
    paths = [os.path.join(folder, "gemma4-made" + ending) for ending in (".json", ".gguf")]
    with open(paths[0], "w", encoding="utf-8") as file:
        file.write(text)
    tokens = sorted(data["model"]["vocab"], key=data["model"]["vocab"].get)
    control = {t["content"] for t in special}
    writer = gguf.GGUFWriter(paths[1], "gemma4")
    writer.add_tokenizer_model("gemma4")
    writer.add_token_list(tokens)
    writer.add_token_scores([-1000.0] * len(tokens))
    writer.add_token_types([3 if t in control else 6 if t.startswith("<0x") else 1 for t in tokens])
    writer.add_token_merges([" ".join(m) for m in data["model"]["merges"]])
    for key, token in (("bos", "<bos>"), ("eos", "<eos>"), ("unk", "<unk>")):
        getattr(writer, f"add_{key}_token_id")(tokens.index(token))
    writer.add_add_space_prefix(False)
    writer.add_add_bos_token(True)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return paths


def write_phi3(folder):
    """The tokenizer.json of the Phi-3 GGUF's vocabulary, its merges found as transformers does: every pair of tokens that
    makes one, the best score first. Tokens beyond Llama 2's take the white space behind them."""
    fields = gguf.GGUFReader(os.path.join(folder, "phi-3.gguf")).fields
    tokens, kinds, scores = (fields["tokenizer.ggml." + key].contents() for key in ("tokens", "token_type", "scores"))
    vocab = {t.replace(" ", "\u2581"): i for i, t in enumerate(tokens[:32000])}
    merges = []
    for token, i in vocab.items():
        pairs = [(token[:k], token[k:]) for k in range(1, len(token)) if kinds[i] == 1]
        pairs = [(a, b) for a, b in pairs if a in vocab and b in vocab]
        merges += [(-scores[i], a, b) for a, b in sorted(pairs, key=lambda p: (vocab[p[0]], vocab[p[1]]))]
    made = Tokenizer(models.BPE(vocab=vocab, merges=[m[1:] for m in sorted(merges, key=lambda m: m[0])], unk_token="<unk>",
                                fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    made.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                                      decoders.Strip(" ", 1, 0)])
    special = [AddedToken(t, normalized=False, special=True, rstrip=t.startswith("<|") and t != "<|endoftext|>")
               for t in ["<unk>", "<s>"] + tokens[32000:32011]]
    made.add_special_tokens(special)
    made.add_tokens([AddedToken("</s>", normalized=False, rstrip=True)])
    path = os.path.join(folder, "phi-3-made.json")
    made.save(path)
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
            compare(program, f"{name} as GGUF", write_gguf(args.folder, name), upstream, args.count, args.seed, outer=False)
        if name == "gemma3":
            made, path = write_gemma4(args.folder)
            upstream = Tokenizer.from_file(made)
            compare(program, "gemma3 in the form of Gemma 4, as tokenizer.json", made, upstream, args.count, args.seed)
            compare(program, "… as GGUF", path, upstream, args.count, args.seed)
    for name in ("gpt-2", "smollm2", "qwen2.5", "phi-3", "gemma3"):
        path = os.path.join(args.folder, name + ".gguf")
        if not os.path.exists(path) or (args.names and name not in args.names):
            continue
        upstream = from_gguf(path)
        compare(program, f"{name}.gguf", path, upstream, args.count, args.seed, outer=False)
        if isinstance(upstream, Tokenizer):
            made = os.path.join(args.folder, name + "-made.json")
            upstream.save(made)
            compare(program, f"{name} as tokenizer.json", made, upstream, args.count, args.seed)
        elif name == "phi-3":
            made = write_phi3(args.folder)
            upstream = Tokenizer.from_file(made)
            compare(program, "phi-3 as tokenizer.json", made, upstream, args.count, args.seed)
            compare(program, "phi-3.gguf against that", path, upstream, args.count, args.seed, False, outer=False)


if __name__ == "__main__":
    sys.exit(main())
