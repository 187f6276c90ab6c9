// Encoding and decoding against what the upstream libraries gave (vectors/README.md), bounds of time, and any
// bytes.
#include "base/hash.h"
#include "base/rng.h"
#include "base/strbuf.h"
#include "base/utf8.h"
#include "os/os.h"
#include "text/pretokenizer.h"
#include "tokenizer_vectors.h"

#include <time.h>

// The ids of a line of 200 KB, of which the file holds a digest.
static void check_long(const JsonNode *row, const Tokenizer *t, Str line) {
    TokenIds ids = vectors_encode(t, line, TOKENIZER_PARSE_SPECIAL);
    const JsonNode *count = json_first(json_get(row, STR("long")));
    uint64_t expected = 0;
    REQUIRE(json_read_u64(count, &expected));
    CHECK_U64_EQ(expected, ids.count);
    Sha256 hash;
    uint8_t digest[32];
    char hex[65];
    sha256_begin(&hash);
    sha256_add(&hash, ids.ptr, ids.count * sizeof *ids.ptr);
    sha256_end(&hash, digest);
    hex_from_bytes(digest, sizeof digest, hex);
    CHECK_STR_EQ(vectors_str(json_next(count)), hex);
}

static Str long_line(const JsonNode *root) {
    Str text = vectors_str(json_get(root, STR("long_text")));
    size_t size = 200 * 1024;
    char *line = arena_new(vectors_arena(), char, size);
    for (size_t i = 0; i < size; i++)
        line[i] = text.ptr[i % text.len];
    return (Str){line, utf8_valid_prefix((Str){line, size})};
}

TEST_SLOW(tokenizer_bpe_gives_upstream_ids, 120) {
    const JsonNode *root = vectors_read("tokenizer/bpe.json"), *rows = json_get(root, STR("rows"));
    const JsonNode *texts = json_get(root, STR("texts"));
    Str line = long_line(root);
    CHECK(texts->length >= 50 && rows->length >= 13);
    for (const JsonNode *row = json_first(rows); row != json_end(rows); row = json_next(row)) {
        Str pre = arena_copy_str(vectors_arena(), vectors_str(json_get(row, STR("pre"))));
        const Tokenizer *t = vectors_bpe(root, pre.ptr);
        CHECK_STR_EQ("gguf-bpe", tokenizer_kind(t));
        CHECK_STR_EQ(pre, tokenizer_pre_tokenizer(t));
        const JsonNode *ids = json_first(json_get(row, STR("ids")));
        for (const JsonNode *c = json_first(texts); c != json_end(texts);
             c = json_next(c), ids = json_next(ids)) {
            Str name = vectors_str(json_first(c)), text = vectors_str(json_next(json_first(c)));
            TEST_CASE_LABEL("%.*s, %.*s", STR_ARG(pre), STR_ARG(name));
            TokenIds plain = vectors_encode(t, text, 0);
            vectors_check_ids(vectors_expected(ids, false), plain);
            vectors_check_ids(vectors_expected(ids, true), vectors_encode(t, text, TOKENIZER_PARSE_SPECIAL));
            if (!pretokenizer_find(pre)->nfc) CHECK_STR_EQ(text, vectors_decode(t, plain));
        }
        TEST_CASE_LABEL("%.*s, long line", STR_ARG(pre));
        check_long(row, t, line);
    }
}

TEST_SLOW(tokenizer_spm_gives_upstream_ids, 120) {
    const JsonNode *root = vectors_read("tokenizer/spm.json"), *rows = json_get(root, STR("rows"));
    const JsonNode *texts = json_get(root, STR("texts"));
    Str line = long_line(root);
    size_t checked = 0;
    for (const JsonNode *row = json_first(rows); row != json_end(rows); row = json_next(row)) {
        bool prefix = false;
        REQUIRE(json_read_bool(json_get(row, STR("add_space_prefix")), &prefix));
        const Tokenizer *t = vectors_spm(root, prefix);
        CHECK_STR_EQ("gguf-spm", tokenizer_kind(t));
        const JsonNode *ids = json_first(json_get(row, STR("ids")));
        for (const JsonNode *c = json_first(texts); c != json_end(texts);
             c = json_next(c), ids = json_next(ids)) {
            Str name = vectors_str(json_first(c)), text = vectors_str(json_next(json_first(c)));
            if (ids->type == JSON_NULL) continue;
            TEST_CASE_LABEL("prefix %d, %.*s", prefix, STR_ARG(name));
            TokenIds found = vectors_encode(t, text, 0);
            vectors_check_ids(vectors_ids(ids), found);
            CHECK_STR_EQ(text, vectors_decode(t, found));
            checked++;
        }
        TEST_CASE_LABEL("prefix %d, long line", prefix);
        check_long(row, t, line);
    }
    CHECK(checked >= 100);
}

// The vocabulary of a GGUF of Gemma 4 beside a tokenizer.json of the same tokens.
TEST(tokenizer_gemma4_gives_upstream_ids) {
    const JsonNode *root = vectors_read("tokenizer/hf.json"), *texts = json_get(root, STR("texts"));
    const JsonNode *rows = json_get(root, STR("rows")), *row = json_first(rows);
    while (row != json_end(rows) && !str_eq(vectors_str(json_get(row, STR("name"))), STR("gemma4")))
        row = json_next(row);
    REQUIRE(row != json_end(rows));
    const Tokenizer *t = vectors_gemma4(root);
    CHECK_STR_EQ("gguf-char-bpe", tokenizer_kind(t));
    CHECK(tokenizer_adds_bos(t));
    const JsonNode *ids = json_first(json_get(row, STR("ids"))), *c = json_first(texts);
    for (; c != json_end(texts); c = json_next(c), ids = json_next(ids)) {
        Str name = vectors_str(json_first(c)), text = vectors_str(json_next(json_first(c)));
        TEST_CASE_LABEL("%.*s", STR_ARG(name));
        TokenIds plain = vectors_encode(t, text, 0);
        vectors_check_ids(vectors_expected(ids, false), plain);
        vectors_check_ids(vectors_expected(ids, true), vectors_encode(t, text, TOKENIZER_PARSE_SPECIAL));
        if (!memmem(text.ptr, text.len, "\xE2\x96\x81", 3) && !memmem(text.ptr, text.len, "<0x", 3))
            CHECK_STR_EQ(text, vectors_decode(t, plain));
    }
}

static const Tokenizer *load_smollm2(void) {
    const GgufFile *file;
    Tokenizer *t = NULL;
    Error err = {0};
    const char *path = test_model_path();
    REQUIRE(gguf_open(path, vectors_arena(), &file, &err));
    REQUIRE(tokenizer_from_gguf(file, vectors_arena(), vectors_scratch(), &t, &err));
    return t;
}

TEST(tokenizer_smollm2_gives_upstream_ids) {
    const JsonNode *cases = json_get(vectors_read("smollm2_tokens.json"), STR("cases"));
    const Tokenizer *t = load_smollm2();
    CHECK(cases->length >= 30);
    for (const JsonNode *c = json_first(cases); c != json_end(cases); c = json_next(c)) {
        Str text = vectors_str(json_get(c, STR("text")));
        TEST_CASE_LABEL("%.*s", STR_ARG(vectors_str(json_get(c, STR("name")))));
        const JsonNode *ids = json_get(c, STR("ids")), *special = json_get(c, STR("ids_special"));
        TokenIds found = vectors_encode(t, text, 0);
        vectors_check_ids(vectors_ids(ids), found);
        vectors_check_ids(vectors_ids(special ? special : ids),
                          vectors_encode(t, text, TOKENIZER_PARSE_SPECIAL));
        bool lossy = false;
        REQUIRE(json_read_bool(json_get(c, STR("lossy")), &lossy));
        if (!lossy) CHECK_STR_EQ(text, vectors_decode(t, found));
    }
}

TEST(tokenizer_smollm2_knows_its_special_tokens) {
    const Tokenizer *t = load_smollm2();
    CHECK_INT_EQ(49152, tokenizer_vocab_size(t));
    CHECK_INT_EQ(1, tokenizer_bos(t));
    CHECK_INT_EQ(2, tokenizer_eos(t));
    CHECK(!tokenizer_adds_bos(t));
    static const struct {
        const char *text;
        int32_t id;
        bool special, end;
    } rows[] = {
        {"<|endoftext|>", 0, true, true}, {"<|im_start|>", 1, true, false}, {"<|im_end|>", 2, true, true},
        {"<repo_name>", 3, true, false},  {"<|im_end|", -1, false, false},  {"", -1, false, false},
        {"the", -1, false, false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].text);
        CHECK_INT_EQ(rows[i].id, tokenizer_token_by_text(t, str_from_c(rows[i].text)));
        CHECK_INT_EQ(rows[i].special, tokenizer_is_special(t, rows[i].id));
        CHECK_INT_EQ(rows[i].end, tokenizer_is_end(t, rows[i].id));
        CHECK_STR_EQ("", tokenizer_piece(t, rows[i].id, false));
        CHECK_STR_EQ(rows[i].id < 0 ? "" : rows[i].text, tokenizer_piece(t, rows[i].id, true));
    }
    static const int32_t outside[] = {-1, -2, INT32_MIN, INT32_MAX, 49152};
    for (size_t i = 0; i < COUNT_OF(outside); i++) {
        CHECK(!tokenizer_is_end(t, outside[i]) && !tokenizer_is_special(t, outside[i]));
        CHECK_INT_EQ(0, tokenizer_piece(t, outside[i], true).len);
    }
}

TEST(tokenizer_adds_special_tokens_where_the_vocabulary_says_so) {
    const Tokenizer *t = vectors_spm(vectors_read("tokenizer/spm.json"), false);
    CHECK(tokenizer_adds_bos(t));
    vectors_check_ids((TokenIds){(int32_t[]){1}, 1}, vectors_encode(t, STR(""), TOKENIZER_ADD_SPECIAL));
    TokenIds with = vectors_encode(t, STR("the"), TOKENIZER_ADD_SPECIAL),
             without = vectors_encode(t, STR("the"), 0);
    CHECK_INT_EQ(1, with.ptr[0]);
    vectors_check_ids(without, (TokenIds){with.ptr + 1, with.count - 1});
}

// ---- any bytes ----

TEST(tokenizer_keeps_bytes_that_are_no_utf8) {
    static const Str rows[] = {
        STR("\xFF"),
        STR("a\x80"),
        STR("\xE2\x82"),
        STR("x \xF0\x9F\x99 y"),
        STR("\xC0\xAF"),
        STR("\xED\xA0\x80"),
        STR("\xF4\x90\x80\x80"),
        STR("caf\xE9 cr\xE8me"),
        STR("\xE2\x82\xE2\x82\xAC"),
        STR("\x00\xFE\x00"),
    };
    const JsonNode *bpe = vectors_read("tokenizer/bpe.json"), *spm = vectors_read("tokenizer/spm.json");
    for (uint32_t kind = 0; kind < pretokenizer_row_count + 1; kind++) {
        bool is_spm = kind == pretokenizer_row_count;
        const Tokenizer *t =
            is_spm ? vectors_spm(spm, false) : vectors_bpe(bpe, pretokenizer_rows[kind].name);
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
            TEST_CASE_LABEL("%s, text %zu", is_spm ? "spm" : pretokenizer_rows[kind].name, i);
            TokenIds ids = vectors_encode(t, rows[i], 0);
            StrBuf bytes = strbuf_begin_in_arena(vectors_arena());
            for (size_t k = 0; k < ids.count; k++)
                strbuf_put(&bytes, tokenizer_piece(t, ids.ptr[k], false));
            Str out = strbuf_end_in_arena(&bytes, vectors_arena());
            CHECK_BYTES_EQ(rows[i].ptr, rows[i].len, out.ptr, out.len);
        }
    }
}

// Random texts of a few characters that patterns and merges care about: what comes out must be what went in.
TEST_SLOW(tokenizer_round_trips_random_texts, 120) {
    static const char *const parts[] = {" ",
                                        " ",
                                        "\n",
                                        "\r",
                                        "\t",
                                        "a",
                                        "the",
                                        "'s",
                                        "'L",
                                        "1",
                                        "23",
                                        ".",
                                        "//",
                                        "\xE4\xBB\x8A",
                                        "\xD9\x85",
                                        "\xCC\x81",
                                        "\xF0\x9F\x99\x82",
                                        "\xFF",
                                        "\xE2\x96\x81",
                                        "<|im_end|>",
                                        "<think",
                                        "A",
                                        "\xC2\x85",
                                        "\xE3\x80\x80"};
    const JsonNode *bpe = vectors_read("tokenizer/bpe.json"), *spm = vectors_read("tokenizer/spm.json");
    uint64_t draw = 0;
    for (uint32_t kind = 0; kind < pretokenizer_row_count + 1; kind++) {
        bool is_spm = kind == pretokenizer_row_count;
        if (!is_spm && pretokenizer_rows[kind].nfc) continue;
        const Tokenizer *t =
            is_spm ? vectors_spm(spm, false) : vectors_bpe(bpe, pretokenizer_rows[kind].name);
        for (int round = 0; round < 40; round++) {
            TEST_CASE_LABEL("%s, round %d", is_spm ? "spm" : pretokenizer_rows[kind].name, round);
            char memory[1200];
            StrBuf text = STRBUF(memory);
            for (uint32_t n = rng_philox(1, draw++).word[0] % 120; n > 0; n--) {
                uint32_t part = rng_philox(2, draw++).word[0] % COUNT_OF(parts);
                // The escape of a space in SentencePiece is also a character; it comes back as a space.
                strbuf_put(&text, str_from_c(is_spm && parts[part][0] == '\xE2' ? "x" : parts[part]));
            }
            TokenIds ids = vectors_encode(t, strbuf_str(&text), 0);
            StrBuf bytes = strbuf_begin_in_arena(vectors_arena());
            for (size_t k = 0; k < ids.count; k++)
                strbuf_put(&bytes, tokenizer_piece(t, ids.ptr[k], false));
            Str out = strbuf_end_in_arena(&bytes, vectors_arena());
            CHECK_BYTES_EQ(text.ptr, text.len, out.ptr, out.len);
        }
    }
}

TEST(tokenizer_encode_reports_full_arenas) {
    const Tokenizer *t = vectors_bpe(vectors_read("tokenizer/bpe.json"), "qwen2");
    Str text = STR(
        "caf\x65\xCC\x81 and some words, aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    TokenIds whole = vectors_encode(t, text, 0), ids;
    Error err = {0};
    size_t needed = (size_t)tokenizer_encode_scratch_bytes(t, text.len);
    for (size_t size = 0; size <= needed; size += 997) {
        Arena all = vectors_scratch(), scratch, kept;
        REQUIRE(arena_split(&all, size, &scratch) && arena_split(vectors_arena(), 1024, &kept));
        if (!tokenizer_encode(t, text, 0, &kept, scratch, &ids, &err)) CHECK_INT_EQ(ERR_NO_MEMORY, err.code);
        else vectors_check_ids(whole, ids);
    }
    for (size_t count = 0; count < whole.count && count < 256; count++) {
        int32_t memory[256];
        Arena kept = arena_from_memory(memory, count * sizeof *memory);
        CHECK(!tokenizer_encode(t, text, 0, &kept, vectors_scratch(), &ids, &err));
        CHECK_INT_EQ(ERR_NO_MEMORY, err.code);
    }
    for (uint64_t failing = 0;; failing++) {
        uint64_t countdown = failing;
        Arena scratch = vectors_scratch(), kept = *vectors_arena();
        scratch.fail_countdown = kept.fail_countdown = &countdown;
        if (tokenizer_encode(t, text, 0, &kept, scratch, &ids, &err)) break;
        CHECK_INT_EQ(ERR_NO_MEMORY, err.code);
        REQUIRE(failing < 100);
    }
}

// ---- time ----

// Bounds are four times what is promised (half a second a megabyte; 8 MB a second of prose), for slow and
// busy machines.
static void check_time(const Tokenizer *t, Str text, double seconds_max) {
    clock_t start = clock();
    TokenIds ids = vectors_encode(t, text, TOKENIZER_PARSE_SPECIAL);
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    CHECK(ids.count > 0);
    if (!test_is_sanitized() && seconds > seconds_max) FAIL("%.2f s for %zu bytes", seconds, text.len);
}

TEST_SLOW(tokenizer_is_fast_on_hostile_text, 300) {
    static const struct {
        const char *name;
        const char *unit, *last;
    } rows[] = {
        {"one letter", "a", ""},
        {"spaces", " ", "x"},
        {"an emoji", "\xF0\x9F\x99\x82", ""},
        {"line ends", "\n", "x"},
        {"digits", "7", ""},
        {"punctuation", "=", "a"},
        {"two letters", "ab", ""},
        {"han", "\xE4\xBB\x8A", ""},
        {"begun tokens", "<|im_star", ""},
        {"spaces and lines", " \n  ", "x"},
        {"marks", "\xCC\x81\xCC\xA7", ""},
        {"bad bytes", "\xE2\x82", ""},
    };
    const JsonNode *bpe = vectors_read("tokenizer/bpe.json"), *spm = vectors_read("tokenizer/spm.json");
    const char *const kinds[] = {"gpt-2",        "llama-bpe", "qwen2", "gpt-4o",
                                 "deepseek-llm", "falcon",    "bloom", "spm"};
    size_t size = test_is_sanitized() ? 100 * 1000 : 1000 * 1000;
    char *memory = arena_new(vectors_arena(), char, size);
    for (size_t k = 0; k < COUNT_OF(kinds); k++) {
        const Tokenizer *t = k + 1 == COUNT_OF(kinds) ? vectors_spm(spm, true) : vectors_bpe(bpe, kinds[k]);
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
            TEST_CASE_LABEL("%s, %s", kinds[k], rows[i].name);
            size_t unit = strlen(rows[i].unit), last = strlen(rows[i].last);
            for (size_t at = 0; at < size; at++)
                memory[at] = rows[i].unit[at % unit];
            memcpy(memory + size - last, rows[i].last, last);
            Arena before = *vectors_arena();
            check_time(t, (Str){memory, size}, 2.0);
            *vectors_arena() = before;
        }
    }
}

TEST(tokenizer_is_fast_on_prose) {
    const Tokenizer *t = load_smollm2();
    Str text;
    Error err = {0};
    REQUIRE(os_file_read(test_data_path("vectors/text_en.txt"), 1 << 20, vectors_arena(), &text, &err));
    size_t size = 4 * 1000 * 1000;
    char *memory = arena_new(vectors_arena(), char, size);
    for (size_t i = 0; i < size; i++)
        memory[i] = text.ptr[i % text.len];
    check_time(t, (Str){memory, size}, 4 * 4.0 / 8);
}
