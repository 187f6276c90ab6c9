"""Writes smollm2_tokens.json: texts and the token ids that the vocabulary of a SmolLM2 GGUF gives them.

The ids come from the PyPI package tokenizers, given the file's vocabulary and merges and the pre-tokeniser that the
file names ("smollm": every number character alone, then the GPT-2 pattern). llama-cpp-python tokenises the same texts;
where it gives other ids, the case holds both. README.md explains the fields.

    python make_tokens.py SmolLM2.gguf smollm2_tokens.json
"""
import json
import sys

import llama_cpp
from gguf import GGUFReader
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

CONTROL = 3

# name, text
CASES = [
    ("empty", ""),
    ("one_space", " "),
    ("one_newline", "\n"),
    ("hello", "Hello, world!"),
    ("leading_space", " leading and trailing "),
    ("runs_of_spaces", "a  b   c    d     e"),
    ("sixteen_spaces", "                "),
    ("spaces_before_punctuation", "x   , y   . z"),
    ("spaces_before_number", "x   7  8 9"),
    ("tabs", "\tone\t\ttwo\t \tthree \t"),
    ("newlines", "a\nb\n\nc\n\n\nd\n"),
    ("crlf", "line one\r\nline two\r\n\r\nline three\r"),
    ("space_newline_mix", "end  \n  start \n\n \t\n x"),
    ("trailing_spaces", "trailing   "),
    ("other_spaces", "no\u00a0break thin\u2009em\u2003ideo\u3000line\u2028para\u2029nel\u0085zero\u200bwidth\ufeffbom"),
    ("vertical_tab_form_feed", "a\vb\fc \v d"),
    ("digits", "0123456789 12 345 6789"),
    ("number_forms", "3.14159 1,000,000 -42 +7 1e-9 0x1F 50% $99 24/7"),
    ("digits_in_words", "abc123def 4x4 h2o 2nd covid19"),
    ("other_numbers", "\u00bd \u00b2\u00b3 \u2167 \u2460\u2461 \u0663\u0664\u0665 "
     "\u0967\u0968\u0969 \uff11\uff12 \u4e09\u5341 \u0bf0"),
    ("contractions", "I'm you're he's they've we'll she'd don't o'clock"),
    ("contractions_odd_case", "I'M You'RE he'S THEY'VE we'LL she'D DON'T 'Tis 'twas 's't're"),
    ("contractions_curly", "it\u2019s don\u2019t we\u2019ll"),
    ("apostrophe_runs", "''s '''t ' s '"),
    ("punctuation", "!?.,;:-_()[]{}<>/\\|@#$%^&*~`\"'"),
    ("punctuation_runs", "wait... what?!?! --- === *** ///"),
    ("underscores", "snake_case __init__ _ _a a_"),
    ("code_c", "int main(void)\n{\n    for (int i = 0; i < 10; i++) {\n\tprintf(\"%d\\n\", i);\n    }\n}\n"),
    ("code_python", "def f(x, *args, **kw):\n    return {k: v for k, v in kw.items() if v != None}  # done\n"),
    ("json", "{\"a\": [1, 2.5, null, true], \"b\": {\"c\": \"d\\u00e9\"}}"),
    ("url", "https://example.com/path?q=1&r=a%20b#frag user@example.com"),
    ("accents", "na\u00efve caf\u00e9 \u00dcber stra\u00dfe \u00c5ngstr\u00f6m \u0141\u00f3d\u017a \u0130stanbul"),
    ("combining_marks", "cafe\u0301 n\u0303 a\u0308\u0323 Z\u0351\u036b\u0343a\u0328 e\u0301e\u0301"),
    ("greek_cyrillic", "\u039a\u03b1\u03bb\u03b7\u03bc\u03ad\u03c1\u03b1 "
     "\u043f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440"),
    ("chinese", "\u4f60\u597d\uff0c\u4e16\u754c\u3002\u4eca\u5929\u5929\u6c14\u5f88\u597d"),
    ("japanese", "\u3053\u3093\u306b\u3061\u306f\u3001\u30ab\u30bf\u30ab\u30ca\u3068\u6f22\u5b57\u3067\u3059\u3002\u2460"),
    ("korean", "\uc548\ub155\ud558\uc138\uc694 \uc138\uacc4 \u1112\u1161\u11ab"),
    ("arabic", "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645\u060c "
     "\u0627\u0644\u0639\u064e\u0631\u064e\u0628\u0650\u064a\u064e\u0651\u0629 \u0661\u0662\u0663"),
    ("hebrew", "\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd \u05e2\u05d5\u05dc\u05dd"),
    ("devanagari", "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e "
     "\u0915\u094d\u0937\u0924\u094d\u0930\u093f\u092f"),
    ("thai", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01"),
    ("tamil", "\u0bb5\u0ba3\u0b95\u0bcd\u0b95\u0bae\u0bcd"),
    ("emoji", "\U0001f600 \U0001f680\U0001f680 \u2764\ufe0f ok\U0001f44d"),
    ("emoji_zwj", "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 "
     "\U0001f3f3\ufe0f\u200d\U0001f308 \U0001f469\U0001f3fd\u200d\U0001f4bb"),
    ("emoji_flags_keycaps", "\U0001f1e9\U0001f1ea\U0001f1ef\U0001f1f5 1\ufe0f\u20e3 #\ufe0f\u20e3"),
    ("math_letters", "\U0001d400\U0001d401 \U0001d7d8\U0001d7d9 \u211d \u2211 \u222b \u221a2 \u2260"),
    ("other_planes", "\U00020000 \U0001f9ff \U000e0041 \uf8ff \ufffd"),
    ("ligatures_fullwidth", "\ufb01ne \uff21\uff22\uff23 \uff01"),
    ("letter_mark_number_edges", "a\u0301b1\u0301c \u00aa\u00ba \u02b0 \u01c5 \u0345"),
    ("control_known", "a\u0001b\u0002\u0003c\u0007\u0008d\u001be\u007f"),
    ("control_nul", "a\u0000b"),
    ("control_c1", "a\u0080b\u009fc \u00ad d"),
    ("bytes_without_token", "a\u0004b\u0006c\u0013d\u0014e\u0016f\u001dg"),
    ("bytes_without_token_inside_word", "!\u0004! =\u0006= (\u0016)"),
    ("bytes_without_token_plane_4", "x\U00040000y \U000c0000"),
    ("only_byte_without_token", "\u0004"),
    ("special_chat", "<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n"),
    ("special_adjacent", "<|im_start|><|im_end|><|endoftext|>"),
    ("special_spaced", " <|im_end|> a <|im_end|>  b"),
    ("special_in_word", "foo<|im_end|>bar's 12<|im_start|>34"),
    ("special_broken", "<|im_start| <|im_end|\u200b> <|IM_END|> <| im_end |> <<|im_end|>>"),
    ("special_other", "<repo_name>x<reponame>y<file_sep>z<filename>w<gh_stars>5<issue_start><jupyter_code><empty_output>"),
    ("special_prefix", "<|im_start|>sys<|im_st"),
    ("long_word", "antidisestablishmentarianism" * 3),
    ("long_run_letters", "a" * 100),
    ("long_run_punctuation", "=" * 70 + "-" * 33),
    ("long_run_spaces", "x" + " " * 75 + "y"),
    ("mixed_case", "CamelCaseHTTPServer XMLHttpRequest iPhone LaTeX"),
    ("sentence", "The quick brown fox jumps over the lazy dog. 1,234 times?"),
]


def build(path):
    """Two tokenizers: one that recognises the special tokens' text, one that takes it as plain text."""
    fields = GGUFReader(path).fields
    tokens, kinds, merges = (fields["tokenizer.ggml." + key].contents() for key in ("tokens", "token_type", "merges"))
    assert fields["tokenizer.ggml.pre"].contents() == "smollm"

    def make():
        made = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)},
                                    merges=[tuple(m.split(" ")) for m in merges]))
        made.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
        made.decoder = decoders.ByteLevel()
        return made

    plain, special = make(), make()
    special.add_special_tokens([AddedToken(t, normalized=False, special=True)
                                for t, kind in zip(tokens, kinds) if kind == CONTROL])
    return plain, special


def main():
    path, out = sys.argv[1:3]
    plain, special = build(path)
    engine = llama_cpp.Llama(path, vocab_only=True, verbose=False)
    lines, differing = [], []
    for name, text in CASES:
        case = {"name": name, "text": text, "ids": plain.encode(text).ids}
        raw = text.encode()
        found = [engine.tokenize(raw, add_bos=False, special=False)]
        if special.encode(text).ids != case["ids"]:
            case["ids_special"] = special.encode(text).ids
        found.append(engine.tokenize(raw, add_bos=False, special=True))
        if found[0] != case["ids"]:
            case["engine_ids"] = found[0]
        if found[1] != case.get("ids_special", case["ids"]):
            case["engine_ids_special"] = found[1]
        if "engine_ids" in case or "engine_ids_special" in case:
            differing.append(name)
        case["lossy"] = plain.decode(case["ids"], skip_special_tokens=False) != text
        lines.append(json.dumps(case))
    with open(out, "w") as file:
        file.write('{"cases": [\n' + ",\n".join(lines) + "\n]}\n")
    print(len(CASES), "cases; the engine differs in", differing)


if __name__ == "__main__":
    main()
