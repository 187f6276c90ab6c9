// What ends a text, which tokens plain text may become, and what a file gets wrong without harm.
#include "gguf_builder.h"
#include "json_vocab.h"
#include "runner.h"
#include "text/byte_level.h"
#include "base/rng.h"
#include "base/strbuf.h"
#include "base/utf8.h"
#include "tokenizer_vectors.h"

enum { BYTES = 256 };

// A byte-level GGUF: the 256 bytes, then these tokens.
typedef struct {
    const char *texts[8];
    int32_t types[8];
    uint32_t count;
} Extra;

static GgufBuilder begin_file(const Extra *extra, const char *pre) {
    Str *tokens = arena_new(vectors_arena(), Str, BYTES + 8);
    int32_t *types = arena_new(vectors_arena(), int32_t, BYTES + 8);
    for (uint32_t i = 0; i < BYTES; i++) {
        char *text = arena_new(vectors_arena(), char, 4);
        tokens[i] = (Str){text, utf8_encode(byte_level_char((uint8_t)i), text)};
        types[i] = 1;
    }
    for (uint32_t i = 0; i < extra->count; i++) {
        tokens[BYTES + i] = str_from_c(extra->texts[i]);
        types[BYTES + i] = extra->types[i];
    }
    static const Str merges[] = {STR("s o")};
    GgufBuilder b = gguf_builder_begin();
    gguf_builder_put_str(&b, "general.architecture", "qwen2");
    gguf_builder_put_str(&b, "tokenizer.ggml.model", "gpt2");
    if (pre) gguf_builder_put_str(&b, "tokenizer.ggml.pre", pre);
    gguf_builder_put_strs(&b, "tokenizer.ggml.tokens", tokens, BYTES + extra->count);
    gguf_builder_put_i32s(&b, "tokenizer.ggml.token_type", types, BYTES + extra->count);
    gguf_builder_put_strs(&b, "tokenizer.ggml.merges", merges, COUNT_OF(merges));
    return b;
}

static bool has_warning(const Tokenizer *t, const char *part) {
    for (uint32_t i = 0; i < tokenizer_warning_count(t); i++) {
        if (strstr(tokenizer_warning(t, i), part)) return true;
    }
    return false;
}

TEST(tokenizer_known_ends_are_control_tokens_whatever_their_type) {
    for (int32_t type = 1; type <= 4; type++) {
        TEST_CASE_LABEL("type %d", type);
        if (type == 2) continue;
        Extra extra = {{"so", "<|im_end|>", "</s>", "<tool>"}, {1, type, type, 4}, 4};
        GgufBuilder b = begin_file(&extra, "gpt-2");
        const Tokenizer *t = vectors_load(gguf_builder_end(&b));
        CHECK(tokenizer_is_end(t, 257) && tokenizer_is_end(t, 258) && !tokenizer_is_end(t, 259));
        CHECK(tokenizer_is_special(t, 257) && !tokenizer_is_special(t, 259));
        CHECK_INT_EQ(2, tokenizer_ends(t).count);
        CHECK_INT_EQ(257, tokenizer_ends(t).ptr[0]);
        CHECK_INT_EQ(257, tokenizer_stop_token(t, STR("<|im_end|>")));
        CHECK_INT_EQ(TOKEN_NONE, tokenizer_stop_token(t, STR("<tool>")));
        CHECK_INT_EQ(TOKEN_NONE, tokenizer_stop_token(t, STR("so")));
        CHECK_INT_EQ(type != 3, has_warning(t, "<|im_end|> (257), </s> (258)"));
        CHECK_INT_EQ(10, vectors_encode(t, STR("<|im_end|>"), 0).count);
        CHECK_INT_EQ(1, vectors_encode(t, STR("<|im_end|>"), TOKENIZER_PARSE_SPECIAL).count);
    }
}

TEST(tokenizer_ends_are_all_that_the_file_names) {
    Extra extra = {{"so", "<|my_end|>", "<|pad|>", "<|repo|>", "<|sep|>", "<|eom|>x"}, {1, 3, 3, 3, 3, 3}, 6};
    GgufBuilder b = begin_file(&extra, "gpt-2");
    static const int32_t ids[] = {256, 257, 9999, -1};
    gguf_builder_put_i32s(&b, "tokenizer.ggml.eos_token_ids", ids, COUNT_OF(ids));
    gguf_builder_put_u32(&b, "tokenizer.ggml.eos_token_id", 70000);
    gguf_builder_put_u32(&b, "tokenizer.ggml.bos_token_id", 4000000000u);
    gguf_builder_put_u32(&b, "tokenizer.ggml.fim_pad_token_id", 258);
    gguf_builder_put_u32(&b, "tokenizer.ggml.fim_rep_token_id", 259);
    gguf_builder_put_u32(&b, "tokenizer.ggml.fim_sep_token_id", 260);
    const Tokenizer *t = vectors_load(gguf_builder_end(&b));
    for (int32_t id = 250; id < 262; id++) {
        TEST_CASE_LABEL("%d", id);
        CHECK_INT_EQ(id >= 256 && id <= 260, tokenizer_is_end(t, id));
    }
    CHECK_INT_EQ(TOKEN_NONE, tokenizer_bos(t));
    CHECK_INT_EQ(TOKEN_NONE, tokenizer_eos(t));
    CHECK(has_warning(t, "eos_token_ids has 9999") && has_warning(t, "eos_token_id is 70000"));
    CHECK(has_warning(t, "bos_token_id is"));
}

TEST(tokenizer_without_pre_takes_the_usual_one) {
    Extra extra = {{"so"}, {1}, 1};
    GgufBuilder b = begin_file(&extra, NULL);
    const Tokenizer *t = vectors_load(gguf_builder_end(&b));
    CHECK_STR_EQ("qwen2", tokenizer_pre_tokenizer(t));
    CHECK(has_warning(t, "no tokenizer.ggml.pre; \"qwen2\" is taken"));
}

static void check_ids(const Tokenizer *t, Str text, uint32_t flags, const int32_t *ids, size_t count) {
    vectors_check_ids((TokenIds){ids, count}, vectors_encode(t, text, flags));
}

// Expected: tokenizers 0.23.3, with encode_special_tokens for plain text.
TEST(tokenizer_whole_words_are_never_control_or_added_tokens) {
    Extra extra = {{"so", "sop"}, {1, 3}, 2};
    GgufBuilder b = begin_file(&extra, "llama-bpe");
    check_ids(vectors_load(gguf_builder_end(&b)), STR("sop"), 0, (const int32_t[]){256, 'p'}, 2);
    JsonVocab v = {
        .options = "\"ignore_merges\":true,",
        .tokens = "so",
        .merges = "[\"s o\"]",
        .added_tokens = "[{\"id\":257,\"content\":\"sop\",\"special\":true,\"single_word\":true}]",
        .pre_tokenizer =
            "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"
            "\" ?\\\\p{L}+|.\"},\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\","
            "\"add_prefix_space\":false,\"use_regex\":false}]}",
        .decoder = "{\"type\":\"ByteLevel\"}"};
    Tokenizer *t;
    Error err = {0};
    if (!tokenizer_from_json(json_vocab_write(&v, vectors_arena()), NULL, vectors_arena(), vectors_scratch(),
                             &t, &err)) {
        FAIL("%s", err.message);
        return;
    }
    check_ids(t, STR("sop"), 0, (const int32_t[]){256, 'p'}, 2);
    check_ids(t, STR("sop"), TOKENIZER_PARSE_SPECIAL, (const int32_t[]){257}, 1);
    check_ids(t, STR("1sop1"), TOKENIZER_PARSE_SPECIAL, (const int32_t[]){'1', 256, 'p', '1'}, 4);
}

// A vocabulary over characters with no unknown token and no bytes.
static const char cuts_json[] =
    "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[],"
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\","
    "\"prepend\":\"\\u2581\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},"
    "\"content\":\"\\u2581\"}]},\"pre_tokenizer\":null,\"post_processor\":null,"
    "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\","
    "\"pattern\":{\"String\":\"\\u2581\"},\"content\":\" \"},{\"type\":\"Fuse\"}]},"
    "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
    "\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,"
    "\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":false,"
    "\"vocab\":{\"\\u2581\":0,\"a\":1,\"b\":2,\"\\u2581\\u2581\":3,\"ab\":4,"
    "\"\\u2581a\":5},\"merges\":[\"\\u2581 \\u2581\",\"a b\",\"\\u2581 a\"]}}";

// Expected: tokenizers 0.23.3.
TEST(tokenizer_characters_left_out_part_no_neighbours) {
    Tokenizer *t;
    Error err = {0};
    if (!tokenizer_from_json(str_from_c(cuts_json), NULL, vectors_arena(), vectors_scratch(), &t, &err)) {
        FAIL("%s", err.message);
        return;
    }
    check_ids(t, STR("x\xF0\x9F\x98\x80 a"), 0, (const int32_t[]){3, 1}, 2);
    check_ids(t, STR("\xF0\x9F\x98\x80  "), 0, (const int32_t[]){3, 0}, 2);
}

TEST(tokenizer_prompts_begin_with_one_bos) {
    Extra extra = {{"so", "<|begin_of_text|>"}, {1, 3}, 2};
    GgufBuilder b = begin_file(&extra, "llama-bpe");
    gguf_builder_put_u32(&b, "tokenizer.ggml.bos_token_id", 257);
    const Tokenizer *t = vectors_load(gguf_builder_end(&b));
    static const int32_t ids[] = {257, 257, '?'};
    check_ids(t, STR("?"), TOKENIZER_PROMPT, ids + 1, 2);
    check_ids(t, STR("<|begin_of_text|>?"), TOKENIZER_PROMPT, ids + 1, 2);
    check_ids(t, STR("<|begin_of_text|><|begin_of_text|>?"), TOKENIZER_PROMPT, ids, 3);
    check_ids(t, STR("<|begin_of_text|>?"), TOKENIZER_ADD_SPECIAL | TOKENIZER_PARSE_SPECIAL, ids, 3);
}

// ---- texts of a template and a request ----

enum { SPANS_MAX = 256 };

// A text that is put together of runs.
typedef struct {
    StrBuf text;
    TextSpan spans[SPANS_MAX];
    uint32_t n_spans;
} Runs;

static void add_run(Runs *r, Str text, bool from_request) {
    REQUIRE(r->n_spans < SPANS_MAX);
    strbuf_put(&r->text, text);
    r->spans[r->n_spans++] = (TextSpan){text.len, from_request};
}

// Scratch is as long as promised.
static TokenIds encode_runs(const Tokenizer *t, const Runs *r) {
    Arena scratch = vectors_scratch();
    TokenIds ids = {0};
    Error err = {0};
    uint64_t size = tokenizer_encode_spans_scratch_bytes(t, r->text.len, r->n_spans);
    scratch.end = (uint8_t *)scratch.next + size;
    REQUIRE(tokenizer_encode_spans(t, strbuf_str(&r->text), r->spans, r->n_spans, vectors_arena(), scratch,
                                   &ids, &err));
    return ids;
}

// Cuts a text at random, and says at random who wrote each part of it; what holds a control token's mark is
// the template's.
static void cut_text(Runs *r, Str text, uint64_t seed) {
    for (size_t at = 0; at < text.len;) {
        RngBlock random = rng_philox(seed, at);
        size_t end = r->n_spans + 8 >= SPANS_MAX ? text.len : at + 1 + random.word[0] % 12;
        end = (size_t)min_u64(end, text.len);
        while (end < text.len && ((uint8_t)text.ptr[end] & 0xc0) == 0x80)
            end++;
        add_run(r, str_slice(text, at, end), random.word[1] & 1);
        at = end;
    }
}

static void check_cuts(const Tokenizer *t, const JsonNode *texts, const Str *marks, size_t n_marks) {
    static char buffer[1 << 16];
    uint64_t seed = 0;
    for (const JsonNode *c = json_first(texts); c != json_end(texts); c = json_next(c)) {
        Str text = vectors_str(json_next(json_first(c)));
        // (Texts that hold marks of their own would be cut within them.)
        if (text.len > 2048 || text.len == 0 || memchr(text.ptr, '<', text.len)) continue;
        Runs r = {.text = STRBUF(buffer)};
        for (size_t i = 0; i < n_marks; i++) {
            add_run(&r, marks[i], false);
            cut_text(&r, text, seed++);
        }
        TEST_CASE_LABEL("%.*s", STR_ARG(vectors_str(json_first(c))));
        vectors_check_ids(vectors_encode(t, strbuf_str(&r.text), TOKENIZER_PARSE_SPECIAL),
                          encode_runs(t, &r));
    }
}

// Where the request spells no control token, spans change nothing: words go across their borders.
TEST_SLOW(tokenizer_spans_give_the_ids_of_the_whole_text, 120) {
    const JsonNode *bpe = vectors_read("tokenizer/bpe.json"), *texts = json_get(bpe, STR("texts"));
    static const char *const pres[] = {"gpt-2", "llama-bpe", "qwen2", "tekken"};
    static const Str marks[] = {STR("<|im_start|>user"), STR("<|im_end|>"), STR("x<|im_end|> ")};
    for (size_t i = 0; i < COUNT_OF(pres); i++)
        check_cuts(vectors_bpe(bpe, pres[i]), texts, marks, COUNT_OF(marks));
    static const Str spm_marks[] = {STR("<s>[INST] "), STR("</s>"), STR("<turn> ")};
    const JsonNode *spm = vectors_read("tokenizer/spm.json");
    for (int prefix = 0; prefix < 2; prefix++)
        check_cuts(vectors_spm(spm, prefix), texts, spm_marks, COUNT_OF(spm_marks));
}

TEST(tokenizer_spans_of_the_request_are_never_control_tokens) {
    Extra extra = {{"so", "<|im_start|>", "<|im_end|>", "<tool>"}, {1, 3, 3, 4}, 4};
    GgufBuilder b = begin_file(&extra, "gpt-2");
    const Tokenizer *t = vectors_load(gguf_builder_end(&b));
    static const struct {
        const char *label;
        struct {
            const char *text;
            bool from_request;
        } runs[4];
        int32_t ids[16];
        size_t count;
    } rows[] = {
        {"the template's", {{"<|im_end|>", 0}}, {258}, 1},
        {"the request's", {{"<|im_end|>", 1}}, {'<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|', '>'}, 10},
        {"between",
         {{"<|im_end|>", 0}, {"<|im_end|>", 1}, {"<|im_start|>", 0}},
         {258, '<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|', '>', 257},
         12},
        {"across a border",
         {{"<|im_", 0}, {"end|>", 1}},
         {'<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|', '>'},
         10},
        {"across borders",
         {{"<|im_", 1}, {"end|", 0}, {">", 1}},
         {'<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|', '>'},
         10},
        {"user-defined", {{"<tool>", 1}}, {259}, 1},
        {"user-defined, across a border", {{"<to", 0}, {"ol>", 1}}, {259}, 1},
        {"a word across a border", {{"s", 0}, {"o", 1}}, {256}, 1},
        {"nothing", {{"", 0}, {"", 1}}, {0}, 0},
        {"empty runs", {{"", 0}, {"s", 1}, {"", 0}, {"o<|im_end|>", 0}}, {256, 258}, 2},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].label);
        char text[64];
        Runs r = {.text = STRBUF(text)};
        for (size_t k = 0; k < 4 && rows[i].runs[k].text; k++)
            add_run(&r, str_from_c(rows[i].runs[k].text), rows[i].runs[k].from_request);
        TokenIds expected = {rows[i].ids, rows[i].count}, found = encode_runs(t, &r);
        vectors_check_ids(expected, found);
    }
}

// Tokens that are looked for in the normalised text, where spans have other lengths.
TEST(tokenizer_spans_reach_into_normalized_text) {
    JsonVocab v = {.tokens = "so",
                   .merges = "[\"s o\"]",
                   .added_tokens =
                       "[{\"id\":257,\"content\":\"<END>\",\"special\":true,\"normalized\":true}]",
                   .normalizer = "{\"type\":\"NFC\"}",
                   .pre_tokenizer = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}",
                   .decoder = "{\"type\":\"ByteLevel\"}"};
    Tokenizer *t;
    Error err = {0};
    if (!tokenizer_from_json(json_vocab_write(&v, vectors_arena()), NULL, vectors_arena(), vectors_scratch(),
                             &t, &err)) {
        FAIL("%s", err.message);
        return;
    }
    char text[64];
    Runs r = {.text = STRBUF(text)};
    // e and a combining accent are one character of two bytes, so everything behind moves by a byte
    add_run(&r, STR("e\xCC\x81<END>"), false);
    add_run(&r, STR("<END>"), true);
    add_run(&r, STR("<END>"), false);
    static const int32_t ids[] = {0xC3, 0xA9, 257, '<', 'E', 'N', 'D', '>', 257};
    vectors_check_ids((TokenIds){ids, COUNT_OF(ids)}, encode_runs(t, &r));
    // Composed across a border: who wrote what is not known, so nothing is a control token.
    r = (Runs){.text = STRBUF(text)};
    add_run(&r, STR("<END>e"), false);
    add_run(&r, STR("\xCC\x81<END>"), true);
    static const int32_t plain[] = {'<', 'E', 'N', 'D', '>', 0xC3, 0xA9, '<', 'E', 'N', 'D', '>'};
    vectors_check_ids((TokenIds){plain, COUNT_OF(plain)}, encode_runs(t, &r));
}
