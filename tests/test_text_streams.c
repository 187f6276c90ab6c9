// The detokeniser, stop strings, NFC, and chat prompts.
#include "base/rng.h"
#include "base/strbuf.h"
#include "base/utf8.h"
#include "gguf_builder.h"
#include "text/detokenizer.h"
#include "text/nfc.h"
#include "text/stop_matcher.h"
#include "tokenizer_vectors.h"

// ---- detokeniser ----

// Expected texts: Python's bytes.decode("utf-8", "replace").
TEST(detokenizer_gives_whole_characters) {
    static const struct {
        const char *bytes, *text;
    } rows[] = {
        {"abc", "abc"},
        {"\377", "\357\277\275"},
        {"\141\200\142", "a\357\277\275b"},
        {"\342\202\254", "\342\202\254"},
        {"\342\202", "\357\277\275"},
        {"\342\202\141", "\357\277\275a"},
        {"\342\342\202\254", "\357\277\275\342\202\254"},
        {"\360\237\231\202", "\360\237\231\202"},
        {"\360\237\231", "\357\277\275"},
        {"\360\237\231\360\237\231\202", "\357\277\275\360\237\231\202"},
        {"\300\257", "\357\277\275\357\277\275"},
        {"\355\240\200", "\357\277\275\357\277\275\357\277\275"},
        {"\364\220\200\200", "\357\277\275\357\277\275\357\277\275\357\277\275"},
        {"\360\200\200\200", "\357\277\275\357\277\275\357\277\275\357\277\275"},
        {"\340\200\200", "\357\277\275\357\277\275\357\277\275"},
        {"\302\302\251", "\357\277\275\302\251"},
        {"\365\141\142\143", "\357\277\275abc"},
        {"\200\200\200", "\357\277\275\357\277\275\357\277\275"},
        {"", ""},
    };
    const Tokenizer *t = vectors_bpe(vectors_read("tokenizer/bpe.json"), "gpt-2");
    Detokenizer d;
    REQUIRE(detokenizer_init(&d, t, vectors_arena()));
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        Str bytes = str_from_c(rows[i].bytes);
        TEST_CASE_LABEL("row %zu", i);
        // All at once, as few tokens as there are, and byte by byte, with control tokens between.
        CHECK_STR_EQ(rows[i].text, vectors_decode(t, vectors_encode(t, bytes, 0)));
        char memory[64];
        StrBuf out = STRBUF(memory);
        for (size_t k = 0; k < bytes.len; k++) {
            TokenIds id = vectors_encode(t, str_slice(bytes, k, k + 1), 0);
            REQUIRE(id.count == 1);
            Str text = detokenizer_push(&d, id.ptr[0]);
            CHECK_INT_EQ(text.len, utf8_valid_prefix(text));
            strbuf_put(&out, text);
            CHECK_INT_EQ(0, detokenizer_push(&d, tokenizer_token_by_text(t, STR("<|im_end|>"))).len);
            CHECK_INT_EQ(0, detokenizer_push(&d, -1).len);
            CHECK_INT_EQ(0, detokenizer_push(&d, INT32_MAX).len);
        }
        strbuf_put(&out, detokenizer_flush(&d));
        CHECK_STR_EQ(rows[i].text, strbuf_str(&out));
        CHECK_INT_EQ(0, detokenizer_flush(&d).len);
    }
}

TEST(detokenizer_drops_the_leading_space_of_a_text_only) {
    const Tokenizer *t = vectors_spm(vectors_read("tokenizer/spm.json"), true);
    CHECK(tokenizer_strips_leading_space(t));
    TokenIds ids = vectors_encode(t, STR("the word"), 0);
    CHECK_STR_EQ("the word", vectors_decode(t, ids));
    Detokenizer d;
    REQUIRE(detokenizer_init(&d, t, vectors_arena()));
    CHECK(str_starts_with(detokenizer_push(&d, ids.ptr[0]), STR(" ")));
}

// ---- stop strings ----

// Pushes the text in pieces of `size` bytes; the output holds what was released, then "!" if it was
// stopped, by the string that is said to be the one.
static void run_stops(const Str *stops, size_t count, Str text, size_t size, StrBuf *out) {
    StopMatcher m;
    Error err;
    Arena arena = *vectors_arena();
    REQUIRE(stop_matcher_init(&m, stops, count, &arena, &err));
    bool stopped = false;
    for (size_t at = 0; at < text.len; at += size) {
        StopOutput o = stop_matcher_push(&m, str_slice(text, at, (size_t)min_u64(at + size, text.len)));
        strbuf_put(out, o.first);
        strbuf_put(out, o.second);
        if (stopped) CHECK(o.stopped && o.first.len + o.second.len == 0);
        stopped = o.stopped;
    }
    strbuf_put(out, stop_matcher_flush(&m));
    CHECK_INT_EQ(0, stop_matcher_flush(&m).len);
    if (!stopped) return;
    CHECK(str_starts_with(str_slice(text, out->len, text.len), stops[m.found]));
    strbuf_put_char(out, '!');
}

TEST(stop_matcher_finds_stops_across_pieces) {
    static const struct {
        const char *stops[STOP_STRINGS_MAX];
        const char *text, *expected;
    } rows[] = {
        {{0}, "abc", "abc"},
        {{"b"}, "abc", "a!"},
        {{"END"}, "the ENEND of", "the EN!"},
        {{"aab"}, "aaaab", "aa!"},
        {{"abab"}, "abaabababab", "aba!"},
        {{"\n\n"}, "a\nb\n\nc", "a\nb!"},
        {{"xyz", "yz"}, "wxyz", "w!"},
        {{"yz", "wxyzz"}, "wxyzz", "wx!"},
        {{"abcd", "bc"}, "abcd", "a!"},
        {{"never"}, "neve", "neve"},
        {{"a", "b", "c", "d"}, "xyzd", "xyz!"},
        {{"\xE2\x82\xAC"}, "5\xE2\x82\xAC", "5!"},
        {{"abc"}, "", ""},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        Str stops[STOP_STRINGS_MAX], text = str_from_c(rows[i].text);
        size_t count = 0;
        for (; count < STOP_STRINGS_MAX && rows[i].stops[count]; count++)
            stops[count] = str_from_c(rows[i].stops[count]);
        for (size_t size = 1; size <= text.len + 1; size++) {
            TEST_CASE_LABEL("row %zu, pieces of %zu", i, size);
            char memory[64];
            StrBuf out = STRBUF(memory);
            run_stops(stops, count, text, size, &out);
            CHECK_STR_EQ(rows[i].expected, strbuf_str(&out));
        }
    }
}

// Against the plain search: the first place where any stop string ends; the longest one there.
TEST(stop_matcher_agrees_with_plain_search) {
    uint64_t draw = 0;
    for (int round = 0; round < 3000; round++) {
        char memory[64], strings[3][6];
        Str stops[3];
        size_t length = rng_philox(3, draw++).word[0] % 40;
        for (size_t i = 0; i < length; i++)
            memory[i] = "ab"[rng_philox(3, draw++).word[0] % 2];
        for (size_t k = 0; k < 3; k++) {
            stops[k] = (Str){strings[k], 1 + rng_philox(3, draw++).word[0] % 6};
            for (size_t i = 0; i < stops[k].len; i++)
                strings[k][i] = "ab"[rng_philox(3, draw++).word[0] % 2];
        }
        size_t kept = length;
        bool stopped = false;
        for (size_t end = 1; end <= length && !stopped; end++) {
            for (size_t k = 0; k < 3; k++) {
                if (!str_ends_with((Str){memory, end}, stops[k])) continue;
                kept = (size_t)min_u64(kept, end - stops[k].len);
                stopped = true;
            }
        }
        TEST_CASE_LABEL("round %d", round);
        char found[64];
        StrBuf out = STRBUF(found);
        run_stops(stops, 3, (Str){memory, length}, 1 + (size_t)round % 7, &out);
        CHECK_INT_EQ(kept + stopped, out.len);
        CHECK(memcmp(found, memory, kept) == 0);
    }
}

TEST(stop_matcher_refuses_bad_strings) {
    static char longest[STOP_STRING_BYTES_MAX + 1];
    memset(longest, 'x', sizeof longest);
    const Str good = {longest, STOP_STRING_BYTES_MAX},
              rows[][1] = {{{longest, 0}}, {{longest, sizeof longest}}};
    Str many[STOP_STRINGS_MAX + 1];
    for (size_t i = 0; i < COUNT_OF(many); i++)
        many[i] = good;
    StopMatcher m;
    Error err = {0};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        CHECK(!stop_matcher_init(&m, rows[i], 1, vectors_arena(), &err));
        CHECK_INT_EQ(ERR_INVALID_REQUEST, err.code);
        CHECK_STR_EQ("stop", err.field);
    }
    CHECK(!stop_matcher_init(&m, many, STOP_STRINGS_MAX + 1, vectors_arena(), &err));
    REQUIRE(stop_matcher_init(&m, many, STOP_STRINGS_MAX, vectors_arena(), &err));
    // One byte less than a stop string is held back and comes out at the end.
    for (size_t i = 0; i + 1 < STOP_STRING_BYTES_MAX; i++) {
        StopOutput o = stop_matcher_push(&m, STR("x"));
        CHECK_INT_EQ(0, o.first.len + o.second.len);
    }
    CHECK_INT_EQ(STOP_STRING_BYTES_MAX - 1, stop_matcher_flush(&m).len);
}

// ---- normalisation ----

// Expected: Python's unicodedata.normalize("NFC", …), Unicode 16.
TEST(nfc_normalizes) {
    static const struct {
        const char *text, *expected;
    } rows[] = {
        {"", ""},
        {"plain", "plain"},
        {"e\xCC\x81", "\xC3\xA9"},
        {"\xC3\xA9", "\xC3\xA9"},
        {"a\xCC\xA3\xCC\x88", "\xE1\xBA\xA1\xCC\x88"},
        {"a\xCC\x88\xCC\xA3", "\xE1\xBA\xA1\xCC\x88"},
        {"\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB", "\xED\x95\x9C"},
        {"\xEA\xB0\x80\xE1\x86\xA8", "\xEA\xB0\x81"},
        {"\xE2\x84\xAB", "\xC3\x85"},
        {"\xE0\xA5\x98", "\xE0\xA4\x95\xE0\xA4\xBC"},
        {"\xCD\x84", "\xCC\x88\xCC\x81"},
        {"\xCC\x81", "\xCC\x81"},
        {"e\xFF\xCC\x81", "e\xFF\xCC\x81"},
        {"\xE2\x82", "\xE2\x82"},
        {"\xF0\x9D\x85\x9E", "\xF0\x9D\x85\x97\xF0\x9D\x85\xA5"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("row %zu", i);
        Str text = str_from_c(rows[i].text), out;
        Arena all = vectors_scratch(), arena;
        REQUIRE(arena_split(&all, (size_t)nfc_arena_bytes(text.len), &arena));
        REQUIRE(nfc_normalize(text, &arena, &out));
        CHECK_STR_EQ(rows[i].expected, out);
        if (nfc_is_done(text)) CHECK_STR_EQ(text, out);
    }
}

// ---- ends of turns ----

// Turns end as Gemma's, whatever a file says that its marks are.
TEST(tokenizer_ends_of_gemma) {
    static const int32_t mark_types[] = {1, 3, 4}; // ordinary, control, user-defined
    const Str tokens[] = {STR("<pad>"), STR("<eos>"),           STR("<bos>"),        STR("<unk>"),
                          STR("a"),     STR("<start_of_turn>"), STR("<end_of_turn>")};
    enum { START = 5, END = 6 };
    for (size_t i = 0; i < COUNT_OF(mark_types); i++) {
        TEST_CASE_LABEL("type %d", mark_types[i]);
        int32_t types[COUNT_OF(tokens)] = {3, 3, 3, 2, 1, mark_types[i], mark_types[i]};
        GgufBuilder b = gguf_builder_begin();
        gguf_builder_put_str(&b, "tokenizer.ggml.model", "llama");
        gguf_builder_put_strs(&b, "tokenizer.ggml.tokens", tokens, COUNT_OF(tokens));
        gguf_builder_put_f32s(&b, "tokenizer.ggml.scores", (float[COUNT_OF(tokens)]){0}, COUNT_OF(tokens));
        gguf_builder_put_i32s(&b, "tokenizer.ggml.token_type", types, COUNT_OF(tokens));
        gguf_builder_put_u32(&b, "tokenizer.ggml.eos_token_id", 1);
        const Tokenizer *t = vectors_load(gguf_builder_end(&b));
        CHECK(tokenizer_is_end(t, END) && tokenizer_is_end(t, 1) && !tokenizer_is_end(t, START));
        CHECK(tokenizer_piece(t, END, false).len == 0);
    }
}
