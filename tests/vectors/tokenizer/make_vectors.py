"""Writes the tokenizer vectors: small vocabularies, and what the upstream libraries make of some texts with them.

    pip install tokenizers==0.23.3 sentencepiece==0.2.3 protobuf
    python make_vectors.py            # writes bpe.json, spm.json and hf.json beside itself

bpe.json: a byte-level BPE vocabulary trained by the tokenizers library on text_en.txt and the sentences below, and the
ids that the library gives for each pre-tokeniser, whose patterns are those of the published models. spm.json: a vocabulary
trained by the sentencepiece library on the same text, and its ids. hf.json: tokenizer.json files in the manner of the
published ones, and what the tokenizers library makes of the texts with them. README.md explains the fields.
"""
import hashlib
import json
import os
import struct
import tempfile

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
USER_DEFINED = ["<think>", "<think/>", "<tool call>"]

SENTENCES = [
    "Der schnelle Fuchs läuft über die große Wiese und trifft dort zwölf müde Hühner.",
    "Le café où j'ai déjeuné était fermé à cause de la neige tombée pendant la nuit.",
    "Привет, мир! Как дела у тебя сегодня? Всё хорошо, спасибо.",
    "今天天气很好，我们去公园散步。你想喝茶还是咖啡？我们明天再见。",
    "これはテストです。カタカナとひらがなと漢字を使います。ありがとうございます。",
    "오늘은 날씨가 좋아서 공원에 갔습니다. 한국어 문장입니다.",
    "مرحبا بالعالم، هذه جملة باللغة العربية.",
    "नमस्ते दुनिया, यह हिन्दी का एक वाक्य है।",
    "def main(args):\n    for i in range(10):\n        print(i, args[i])\n    return None\n",
    "int main(void) {\n\tprintf(\"%d\\n\", 42);\n\treturn 0;\n}\n",
    "I'm sure you're right, they've said we'll go, she'd know it's done, don't you think?",
    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n",
    "🙂🙃😀 👍👍 🎉 ❤️",
]

# name, text
TEXTS = [
    ("empty", ""), ("space", " "), ("newline", "\n"), ("hello", "Hello, world!"),
    ("leading_and_trailing", "  leading and trailing  "), ("runs_of_spaces", "a  b   c    d     e" + " " * 17 + "f"),
    ("spaces_before_punctuation", "x   , y   . z  7"), ("tabs", "\tone\t\ttwo\t \tthree \t"),
    ("newlines", "a\nb\n\nc\n\n\nd\n "), ("crlf", "line one\r\nline two\r\n\r\nline three\r\n \r\n"),
    ("space_newline_mix", "end  \n  start \n\n \t\n x"), ("only_white", " \n\t \r\n  "),
    ("other_spaces", "no\u00a0break thin\u2009em\u2003ideo\u3000line\u2028nel\u0085zero\u200bwidth\ufeffbom\u180e."),
    ("vertical_tab", "a\vb\fc \v d\x1ce"), ("digits", "0 12 123 1234 12345 123456 1234567"),
    ("numbers", "3.14159 1,000,000 -42 +7 1e-9 0x1F 50% 24/7 1st"), ("other_numbers", "½ ²³ Ⅷ ①② ٣٤٥ १२३ １２ 三十"),
    ("contractions", "I'm you're he's they've we'll she'd don't o'clock"),
    ("contractions_odd_case", "I'M You'RE he'S THEY'VE we'LL she'D DON'T 'Tis 'twas 's't're'LL"),
    ("contractions_long_s", "it'\u017f it'\u212a a'\u017fx"), ("contractions_curly", "it’s don’t we’ll"),
    ("apostrophes", "''s '''t ' s '"), ("punctuation", "!?.,;:-_()[]{}<>/\\|@#$%^&*~`\"'"),
    ("punctuation_runs", "wait... what?!?! --- === *** /// a//b\n//c\n"), ("slashes_and_newlines", "a/\n/b !\n\n?\r\n/"),
    ("underscores", "snake_case __init__ _ _a a_"), ("camel_case", "CamelCaseHTTPServer XMLHttpRequest iPhone LaTeX aB ABc"),
    ("title_case_letters", "ǅungla ǈ ʰa Aʰ ªº"), ("code_c", "int f(int *p)\n{\n\treturn p ? *p : -1; // done\n}\n"),
    ("code_python", "def f(x, *args, **kw):\n    return {k: v for k, v in kw.items() if v != None}\n"),
    ("json", "{\"a\": [1, 2.5, null, true], \"b\": {\"c\": \"d\\u00e9\"}}"), ("url", "https://example.com/path?q=1&r=a%20b#frag"),
    ("accents", "naïve café Über straße Łódź İstanbul"), ("combining", "cafe\u0301 n\u0303 a\u0308\u0323 e\u0301e\u0301 \u0301 x\u0345"),
    ("decomposed_hangul", "\u1112\u1161\u11ab\u1100\u1173\u11af 한글"), ("compatibility", "ﬁne ＡＢＣ Å Ω \u0958 \u0344 \u1f71"),
    ("cyrillic", "Привет, мир! Всё хорошо"), ("chinese", "今天天气很好，我们去公园。"), ("japanese", "これはカタカナと漢字です。"),
    ("korean", "오늘은 날씨가 좋아서"), ("mixed_cjk", "GPU上の3個のテスト한국어abc"), ("arabic", "مرحبا بالعالَم، ١٢٣"), ("hebrew", "שָׁלוֹם עולם"),
    ("devanagari", "नमस्ते दुनिया क्षत्रिय"), ("thai", "สวัสดีชาวโลก"), ("emoji", "😀 🚀🚀 ❤️ ok👍"),
    ("emoji_joined", "👨‍👩‍👧‍👦 🏳️‍🌈 👩🏽‍💻 🇩🇪🇯🇵 1️⃣"), ("math_letters", "𝐀𝐁 𝟘𝟙 ℝ ∑ √2 ≠"),
    ("private_and_unassigned", "\ue000 \U000f0000 \u0378 \ufffd"), ("controls", "a\u0001b\u0000c\u007fd\u0080e"),
    ("special", "<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n"), ("special_adjacent", "<|im_end|><|im_end|><|endoftext|>"),
    ("special_in_word", "foo<|im_end|>bar's 12<|im_start|>34"), ("special_broken", "<|im_start| <|im_end> <<|im_end|>> <|im_st"),
    ("user_defined", "a<think>b <think/> c<tool call>d<tool callx <thin <think"), ("long_word", "antidisestablishmentarianism" * 5),
    ("long_runs", "a" * 100 + "=" * 70 + " " * 75 + "9" * 40 + "の" * 50 + "\n" * 40),
    ("sentence", "The quick brown fox jumps over the lazy dog. 1,234 times?"),
]

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r"\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + TAIL
QWEN2 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + TAIL
QWEN35 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + TAIL
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CASED = r"[^\r\n\p{L}\p{N}]?%s*%s+%s|[^\r\n\p{L}\p{N}]?%s+%s*%s"
O200K = (CASED % (UPPER, LOWER, CONTRACTIONS + "?", UPPER, LOWER, CONTRACTIONS + "?") +
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + TAIL)
TEKKEN = CASED % (UPPER, LOWER, "", UPPER, LOWER, "") + r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + TAIL
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
DEEPSEEK_V3 = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
               r" ?[\p{P}\p{S}]+[\r\n]*|" + TAIL)
BAILING = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+")

JAIS2 = (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|" +
         "".join(r"\s{%d}(?!\S)|" % n for n in (512, 256, 128, 64, 32, 16, 8, 4)) + r"\s{1,2}(?!\S)|\s{1}")
SINGLE = O200K.replace(r"\p{N}{1,3}", r"\p{N}")
HAN_UPPER, HAN_LOWER = UPPER[:-1] + r"&&[^\p{Han}]]", LOWER[:-1] + r"&&[^\p{Han}]]"
KIMI = (r"[\p{Han}]+|" + CASED % (HAN_UPPER, HAN_LOWER, CONTRACTIONS + "?", HAN_UPPER, HAN_LOWER, CONTRACTIONS + "?") +
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + TAIL)
YOUTU = ("[\uac00-\ud7a3\u3131-\u318e]+|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c\u3001-\u303f\ufe30-\ufe4f]+|"
         "[\u3105-\u312f]+|[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+")
EXAONE_MOE = (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|"
              r"\s+(?!\S)|\s+")

# name: patterns, words that are tokens are taken whole, NFC first
PRE_TOKENIZERS = {
    "gpt-2": ([GPT2], False, False),
    "smollm": ([r"\p{N}", GPT2], False, False),
    "llama-bpe": ([LLAMA3], True, False),
    "qwen2": ([QWEN2], False, True),
    "qwen35": ([QWEN35], False, True),
    "gpt-4o": ([O200K], True, False),
    "tekken": ([TEKKEN], True, False),
    "deepseek-coder": ([r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+", r"\p{N}"], False, False),
    "deepseek-v3": ([r"\p{N}{1,3}", "[一-龥\u3040-\u309f\u30a0-\u30ff]+", DEEPSEEK_V3], False, False),
    "falcon": ([r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"], False, False),
    "default": ([r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"], False, False),
    "bloom": ([" ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"], False, False),
    "bailingmoe": ([BAILING], False, False),
    "jais-2": ([JAIS2], False, False),
    "youtu": ([YOUTU, SINGLE], True, False),
    "tiny_aya": ([r"\d{1,3}(?=(?:\d{3})*\b)", O200K], False, False),
    "kimi-k2": ([KIMI], False, False),
    "superbpe": ([r"\p{N}+", r"(?=(\d{3})+(?!\d))"], False, False),
    "minicpm5": ([r"\p{N}{1,3}", LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}+")], True, False),
    "exaone-moe": ([EXAONE_MOE], False, False),
}


def training_text():
    with open(os.path.join(HERE, "..", "text_en.txt"), encoding="utf-8") as file:
        return [line for line in file.read().split("\n") if line] + SENTENCES * 3


LONG_TEXT = " ".join(SENTENCES).replace("\n", " ").replace("\r", " ") + " "


def long_line():
    """200 KB without a line end: LONG_TEXT again and again."""
    count = 200 * 1024 // len(LONG_TEXT.encode()) + 1
    return (LONG_TEXT * count).encode()[:200 * 1024].decode(errors="ignore")


def digest(ids):
    return hashlib.sha256(b"".join(struct.pack("<i", i) for i in ids)).hexdigest()


def make_bpe(vocab, merges, patterns, whole, nfc, special):
    made = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=whole))
    if nfc:
        made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(p), "isolated") for p in patterns] +
        [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    made.decoder = decoders.ByteLevel()
    if special:
        made.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in SPECIAL])
    made.add_tokens([AddedToken(t, normalized=False) for t in USER_DEFINED])
    return made


def write_bpe():
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    learner.train_from_iterator(training_text(), trainers.BpeTrainer(
        vocab_size=1000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    model = json.loads(learner.to_str())["model"]
    vocab, merges = model["vocab"], [tuple(m) for m in model["merges"]]
    # Words that merges do not reach, for the pre-tokenisers that take whole words.
    for token in ("Ġtimes", "LaTeX", "Ġlaz"):
        vocab.setdefault(token, len(vocab))
    for token in SPECIAL + USER_DEFINED:
        vocab[token] = len(vocab)
    rows, line = [], long_line()
    for name, (patterns, whole, nfc) in PRE_TOKENIZERS.items():
        plain = make_bpe(vocab, merges, patterns, whole, nfc, False)
        special = make_bpe(vocab, merges, patterns, whole, nfc, True)
        cases = []
        for _, text in TEXTS:
            ids, ids_special = plain.encode(text).ids, special.encode(text).ids
            cases.append(ids if ids == ids_special else [ids, ids_special])
            assert nfc or plain.decode(ids, skip_special_tokens=False) == text
        long_ids = special.encode(line).ids
        rows.append({"pre": name, "ids": cases, "long": [len(long_ids), digest(long_ids)]})
    write("bpe.json", {
        "tokens": sorted(vocab, key=vocab.get), "merges": [" ".join(m) for m in merges], "special": SPECIAL,
        "long_text": LONG_TEXT, "user_defined": USER_DEFINED, "texts": [list(t) for t in TEXTS], "rows": rows})


def write_spm():
    rows, tokens = [], None
    with tempfile.TemporaryDirectory() as folder:
        prefix = os.path.join(folder, "spm")
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=iter(training_text()), model_prefix=prefix, model_type="bpe", vocab_size=1100,
            byte_fallback=True, character_coverage=0.99, user_defined_symbols=["<think>", "\n\n"], control_symbols=["<turn>"],
            normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
            allow_whitespace_only_pieces=True, num_threads=1, minloglevel=2)
        proto = sentencepiece_model_pb2.ModelProto()
        with open(prefix + ".model", "rb") as file:
            proto.ParseFromString(file.read())
    tokens = [[p.piece, p.score, p.type] for p in proto.pieces]
    for add_prefix in (True, False):
        proto.normalizer_spec.add_dummy_prefix = add_prefix
        processor = sentencepiece.SentencePieceProcessor()
        processor.LoadFromSerializedProto(proto.SerializeToString())
        # With a prefix, the library puts no space behind a symbol inside the text, other programs do: left out.
        texts = [None if add_prefix and ("<think>" in t or "\n\n" in t) else processor.EncodeAsIds(t) for _, t in TEXTS]
        long_ids = processor.EncodeAsIds(long_line())
        rows.append({"add_space_prefix": add_prefix, "ids": texts, "long": [len(long_ids), digest(long_ids)]})
    write("spm.json", {"tokens": tokens, "long_text": LONG_TEXT, "texts": [list(t) for t in TEXTS], "rows": rows})


# ---- tokenizer.json files ----

HF_TEXTS = [
    ("lstrip_rstrip", "a  <mask>  b<mask>c \n <mask>"), ("single_word", "word wordword word's _word (word) \u0301word sword"),
    ("markers", "<s>one</s> two<s> three</s></s>  <|user|> \n four"), ("leading_spaces", "  two"), ("metaspaces", "a\u2581b \u2581 \u2581\u2581c"),
    ("vowels", "aeiou.x..y queue 1a2b"), ("pieces", "the the\u0301 thing,the,thing"), ("byte_tokens", "<0x41> <0x0A><0x0a> <unk>"),
    ("bengali_unknown", "\u0985\u0986 x\u0987\u0988y \u0989"),
]
SPACE = "\u2581"


def added(special, plain=()):
    return [AddedToken(t, normalized=False, special=True) for t in special], [AddedToken(t, normalized=False) for t in plain]


def train_characters():
    """A vocabulary over characters, in which spaces are U+2581, with tokens for all bytes."""
    learner = Tokenizer(models.BPE(unk_token="<unk>"))
    learner.normalizer = normalizers.Replace(" ", SPACE)
    learner.pre_tokenizer = pre_tokenizers.Split(Regex(SPACE + "*[^" + SPACE + "]*"), "isolated")
    learner.train_from_iterator(training_text(), trainers.BpeTrainer(
        vocab_size=700, limit_alphabet=180, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False))
    model = json.loads(learner.to_str())["model"]
    vocab = model["vocab"]
    for byte in range(256):
        vocab[f"<0x{byte:02X}>"] = len(vocab)
    return vocab, [tuple(m) for m in model["merges"]]


def bos_template(token, id):
    return processors.TemplateProcessing(single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=[(token, id)])


def spm_decoder(strip):
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    return decoders.Sequence(steps + ([decoders.Strip(" ", 1, 0)] if strip else []))


def hf_rows(byte_vocab, char_vocab):
    """name, vocabulary, options of the model, normalizer, pre-tokeniser, decoder, post-processor, added tokens."""
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    split = lambda pattern, behavior="isolated", invert=False: pre_tokenizers.Split(  # noqa: E731
        Regex(pattern), behavior, invert)
    chain = lambda *steps: pre_tokenizers.Sequence(list(steps))  # noqa: E731
    undo = decoders.ByteLevel()
    bos = byte_vocab["<|endoftext|>"]
    s = char_vocab["<s>"]
    fallback = {"byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>"}
    llama2 = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    yield "gpt2", "bytes", {}, None, words, undo, processors.ByteLevel(), added(SPECIAL)
    yield ("gpt2-prefix", "bytes", {}, None, pre_tokenizers.ByteLevel(add_prefix_space=True), undo, processors.RobertaProcessing(
        ("<|im_end|>", byte_vocab["<|im_end|>"]), ("<|endoftext|>", bos)),
        ([AddedToken("<mask>", lstrip=True, normalized=False, special=True)], [AddedToken("word", single_word=True)]))
    yield "smollm", "bytes", {}, None, chain(pre_tokenizers.Digits(True), words), undo, None, added(SPECIAL)
    yield ("llama3", "bytes", {"ignore_merges": True}, None, chain(split(LLAMA3), level), undo,
           processors.Sequence([processors.ByteLevel(), bos_template("<|endoftext|>", bos)]), added(SPECIAL))
    yield "qwen", "bytes", {}, normalizers.NFC(), chain(split(QWEN2), level), undo, None, added(SPECIAL, USER_DEFINED)
    yield ("gpt-oss", "bytes", {"ignore_merges": True}, None, chain(split(O200K), level), undo, None,
           added(SPECIAL + ["<mask>"], ["<think>"]))
    yield ("deepseek", "bytes", {}, None, chain(split(r"\p{N}{1,3}"), split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"),
                                               split(DEEPSEEK_V3), level), undo, bos_template("<|endoftext|>", bos), added(SPECIAL))
    yield ("behaviors", "bytes", {}, None,
           chain(split("[aeiou]", "merged_with_next"), pre_tokenizers.Split(".", "merged_with_previous"),
                 pre_tokenizers.Punctuation("contiguous"), split("t+", "merged_with_previous", True), split("\\w", "contiguous", True),
                 level), undo, None, ([], [AddedToken("word", single_word=True, rstrip=True)]))
    yield ("words-only", "bytes", {}, None, chain(pre_tokenizers.Whitespace(), pre_tokenizers.Digits(False), level), undo, None,
           added([]))
    yield ("normalizers", "bytes", {}, normalizers.Sequence([
        normalizers.NFD(), normalizers.StripAccents(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]),
        words, undo, None, ([AddedToken("naïve", normalized=True, special=True)], [AddedToken("café", normalized=True)]))
    yield "llama2", "characters", fallback, llama2, None, spm_decoder(True), bos_template("<s>", s), added(["<unk>", "<s>", "</s>"])
    yield ("llama2-normalized", "characters", fallback, llama2, None, spm_decoder(True), bos_template("<s>", s),
           ([AddedToken(t, normalized=True, special=True) for t in ("<s>", "</s>")], []))
    yield ("phi3", "characters", fallback, llama2, None, spm_decoder(True), None,
           ([AddedToken("<|user|>", rstrip=True, normalized=False, special=True)], [AddedToken("</s>", rstrip=True, normalized=False)]))
    yield ("gemma", "characters", fallback, normalizers.Replace(" ", SPACE), pre_tokenizers.Split(" ", "merged_with_previous"),
           spm_decoder(False), bos_template("<s>", s), added(["<s>"], ["\n\n", SPACE * 2]))
    yield ("mistral", "characters", fallback, None, pre_tokenizers.Metaspace(SPACE, "first", False), spm_decoder(True),
           bos_template("<s>", s), added(["<unk>", "<s>", "</s>"]))
    yield ("metaspace", "characters", {"unk_token": "<unk>", "fuse_unk": True}, None, pre_tokenizers.Metaspace(SPACE, "always", True),
           decoders.Metaspace(SPACE, "always"), None, added(["<s>"]))
    yield ("unknown", "characters", {"unk_token": "<unk>", "fuse_unk": False}, None,
           chain(pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()), decoders.Metaspace(SPACE, "never"), None, added(["<s>"]))
    yield "no-unknown", "characters", {}, None, pre_tokenizers.Metaspace(SPACE, "never"), decoders.Metaspace(SPACE, "never"), None, added([])
    yield ("gemma4", "characters", fallback, normalizers.Replace(" ", SPACE), pre_tokenizers.Split(" ", "merged_with_previous"),
           spm_decoder(False), bos_template("<s>", s), added(["<unk>", "<s>", "</s>"]))


def hf_template(made, pairs):
    """The file without its tokens and merges, which the test puts in."""
    data = json.loads(made.to_str())
    data["model"]["vocab"], data["model"]["merges"] = None, "pairs" if pairs else "strings"
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def write_hf():
    with open(os.path.join(HERE, "bpe.json"), encoding="ascii") as file:
        bpe = json.load(file)
    vocabs = {"bytes": ({t: i for i, t in enumerate(bpe["tokens"])}, [tuple(m.split(" ")) for m in bpe["merges"]]),
              "characters": train_characters()}
    texts, rows = TEXTS + HF_TEXTS, []
    for name, kind, options, normalizer, pre, decoder, post, (special, plain) in hf_rows(*(v for v, _ in vocabs.values())):
        vocab, merges = vocabs[kind]
        made = Tokenizer(models.BPE(vocab=vocab, merges=merges, **options))
        made.decoder = decoder
        if normalizer:
            made.normalizer = normalizer
        if pre:
            made.pre_tokenizer = pre
        if post:
            made.post_processor = post
        made.add_special_tokens(special)
        made.add_tokens(plain)
        ids, decoded = [], []
        # The library decodes a token that is found in normalised text as its normalised spelling, even a control token.
        odd = {i for i, t in made.get_added_tokens_decoder().items() if t.normalized and normalizer}
        for _, text in texts:
            made.encode_special_tokens = True
            without = made.encode(text, add_special_tokens=False).ids
            made.encode_special_tokens = False
            parsed = made.encode(text, add_special_tokens=False).ids
            ids.append(parsed if parsed == without else [without, parsed])
            # The Metaspace decoder drops all spaces of the first token, not just the one that was put in front.
            back = made.decode(parsed)
            quirk = isinstance(decoder, decoders.Metaspace) and text.startswith(("  ", " " + SPACE)) or odd & set(parsed)
            decoded.append(None if quirk else True if back == text else back)
        rows.append({"name": name, "vocab": kind, "file": hf_template(made, len(rows) % 2 == 0), "ids": ids, "decoded": decoded,
                     "the": made.encode("the", add_special_tokens=True).ids})
    tokens, merges = vocabs["characters"]
    write("hf.json", {"tokens": sorted(tokens, key=tokens.get), "merges": [" ".join(m) for m in merges],
                      "texts": [list(t) for t in texts], "rows": rows})


def write(name, data):
    """One member of a row a line, so that changes can be read."""
    with open(os.path.join(HERE, name), "w", encoding="ascii") as file:
        file.write("{\n" + ",\n".join(
            f'"{key}": ' + ("[\n" + ",\n".join(json.dumps(v, separators=(",", ":")) for v in value) + "\n]"
                            if key in ("rows", "texts") else json.dumps(value, separators=(",", ":")))
            for key, value in data.items()) + "\n}\n")


if __name__ == "__main__":
    write_bpe()
    write_spm()
    write_hf()
