// Vocabularies with one thing wrong each: refused with a message that names it.
#include "gguf_builder.h"
#include "tokenizer_vectors.h"

typedef enum {
    GOOD,
    NO_MODEL,
    OTHER_MODEL,
    MODEL_IS_NUMBER,
    OTHER_PRE,
    NO_TOKENS,
    TOKENS_ARE_NUMBERS,
    EMPTY_TOKENS,
    DUPLICATE_TOKENS,
    SHORT_TYPES,
    TYPES_ARE_STRINGS,
    NO_MERGES,
    MERGES_ARE_NUMBERS,
    MERGE_WITHOUT_SPACE,
    EMPTY_MERGE,
    MERGE_OF_UNKNOWN_LEFT,
    MERGE_OF_UNKNOWN_RIGHT,
    MERGE_TO_UNKNOWN,
    MERGE_WITHOUT_RIGHT,
    EOS_IS_STRING,
    ADD_BOS_IS_NUMBER,
    SPM_GOOD,
    SPM_NO_SCORES,
    SPM_SHORT_SCORES,
    SPM_SCORE_NAN,
    SPM_SCORES_ARE_STRINGS,
} Fault;

static const struct {
    Fault fault;
    ErrCode code;
    const char *words[2]; // of the message
} rows[] = {
    {NO_MODEL, ERR_BAD_FILE, {"tokenizer.ggml.model"}},
    {OTHER_MODEL, ERR_UNSUPPORTED, {"\"bert\"", "gpt2 llama gemma4"}},
    {MODEL_IS_NUMBER, ERR_BAD_FILE, {"tokenizer.ggml.model"}},
    {OTHER_PRE,
     ERR_UNSUPPORTED,
     {"\"never-heard-of\"", "; --tokenizer names a tokenizer.json to use instead"}},
    {NO_TOKENS, ERR_BAD_FILE, {"tokenizer.ggml.tokens"}},
    {TOKENS_ARE_NUMBERS, ERR_BAD_FILE, {"tokenizer.ggml.tokens"}},
    {EMPTY_TOKENS, ERR_BAD_FILE, {"tokenizer.ggml.tokens", "0 tokens"}},
    {DUPLICATE_TOKENS, ERR_BAD_FILE, {"tokens 1 and 3", "\"b\""}},
    {SHORT_TYPES, ERR_BAD_FILE, {"tokenizer.ggml.token_type", "3 types for 6 tokens"}},
    {TYPES_ARE_STRINGS, ERR_BAD_FILE, {"tokenizer.ggml.token_type"}},
    {NO_MERGES, ERR_BAD_FILE, {"tokenizer.ggml.merges"}},
    {MERGES_ARE_NUMBERS, ERR_BAD_FILE, {"tokenizer.ggml.merges"}},
    {MERGE_WITHOUT_SPACE, ERR_BAD_FILE, {"merge 1", "space"}},
    {EMPTY_MERGE, ERR_BAD_FILE, {"merge 1", "space"}},
    {MERGE_OF_UNKNOWN_LEFT, ERR_BAD_FILE, {"merge 1", "\"x\""}},
    {MERGE_OF_UNKNOWN_RIGHT, ERR_BAD_FILE, {"merge 1", "\"y\""}},
    {MERGE_TO_UNKNOWN, ERR_BAD_FILE, {"merge 1", "\"ba\""}},
    {MERGE_WITHOUT_RIGHT, ERR_BAD_FILE, {"merge 1", "no token"}},
    {EOS_IS_STRING, ERR_BAD_FILE, {"eos_token_id"}},
    {ADD_BOS_IS_NUMBER, ERR_BAD_FILE, {"add_bos_token"}},
    {SPM_NO_SCORES, ERR_BAD_FILE, {"tokenizer.ggml.scores"}},
    {SPM_SHORT_SCORES, ERR_BAD_FILE, {"tokenizer.ggml.scores", "5 scores for 6 tokens"}},
    {SPM_SCORE_NAN, ERR_BAD_FILE, {"score 4"}},
    {SPM_SCORES_ARE_STRINGS, ERR_BAD_FILE, {"tokenizer.ggml.scores"}},
};

static void put_special(GgufBuilder *b, Fault fault) {
    if (fault == EOS_IS_STRING) gguf_builder_put_str(b, "tokenizer.ggml.eos_token_id", "5");
    else gguf_builder_put_u32(b, "tokenizer.ggml.eos_token_id", 5);
    gguf_builder_put_u32(b, "tokenizer.ggml.bos_token_id", 5);
    if (fault == ADD_BOS_IS_NUMBER) gguf_builder_put_u32(b, "tokenizer.ggml.add_bos_token", 1);
}

static void put_merges(GgufBuilder *b, Fault fault) {
    static const int32_t numbers[] = {1, 2};
    Str merges[] = {STR("a b"), STR("ab c")};
    if (fault == MERGE_WITHOUT_SPACE) merges[1] = STR("abc");
    if (fault == EMPTY_MERGE) merges[1] = STR("");
    if (fault == MERGE_OF_UNKNOWN_LEFT) merges[1] = STR("x c");
    if (fault == MERGE_OF_UNKNOWN_RIGHT) merges[1] = STR("a y");
    if (fault == MERGE_TO_UNKNOWN) merges[1] = STR("b a");
    if (fault == MERGE_WITHOUT_RIGHT) merges[1] = STR("ab ");
    if (fault == MERGES_ARE_NUMBERS)
        gguf_builder_put_i32s(b, "tokenizer.ggml.merges", numbers, COUNT_OF(numbers));
    else if (fault != NO_MERGES) gguf_builder_put_strs(b, "tokenizer.ggml.merges", merges, COUNT_OF(merges));
}

static void put_scores(GgufBuilder *b, Fault fault) {
    static const Str strings[] = {STR("0")};
    float scores[] = {-1, -2, -3, -4, -5, 0};
    if (fault == SPM_SCORE_NAN) scores[4] = __builtin_nanf("");
    if (fault == SPM_SCORES_ARE_STRINGS) gguf_builder_put_strs(b, "tokenizer.ggml.scores", strings, 1);
    else if (fault != SPM_NO_SCORES)
        gguf_builder_put_f32s(b, "tokenizer.ggml.scores", scores, fault == SPM_SHORT_SCORES ? 5 : 6);
}

static Str build(Fault fault) {
    static const int32_t types[] = {1, 1, 1, 1, 1, 3};
    Str tokens[] = {STR("a"), STR("b"), STR("ab"), STR("c"), STR("abc"), STR("<s>")};
    GgufBuilder b = gguf_builder_begin();
    if (fault == MODEL_IS_NUMBER) gguf_builder_put_u32(&b, "tokenizer.ggml.model", 1);
    else if (fault == OTHER_MODEL) gguf_builder_put_str(&b, "tokenizer.ggml.model", "bert");
    else if (fault != NO_MODEL)
        gguf_builder_put_str(&b, "tokenizer.ggml.model", fault >= SPM_GOOD ? "llama" : "gpt2");
    if (fault == OTHER_PRE) gguf_builder_put_str(&b, "tokenizer.ggml.pre", "never-heard-of");
    else gguf_builder_put_str(&b, "tokenizer.ggml.pre", "gpt-2");
    if (fault == DUPLICATE_TOKENS) tokens[3] = tokens[1];
    if (fault == TOKENS_ARE_NUMBERS)
        gguf_builder_put_i32s(&b, "tokenizer.ggml.tokens", types, COUNT_OF(types));
    else if (fault != NO_TOKENS)
        gguf_builder_put_strs(&b, "tokenizer.ggml.tokens", tokens, fault == EMPTY_TOKENS ? 0 : 6);
    if (fault == TYPES_ARE_STRINGS) gguf_builder_put_strs(&b, "tokenizer.ggml.token_type", tokens, 6);
    else if (fault != EMPTY_TOKENS)
        gguf_builder_put_i32s(&b, "tokenizer.ggml.token_type", types, fault == SHORT_TYPES ? 3 : 6);
    put_merges(&b, fault);
    put_scores(&b, fault);
    put_special(&b, fault);
    return gguf_builder_end(&b);
}

static bool load(Str gguf, Tokenizer **t, Arena *arena, Arena scratch, Error *err) {
    const GgufPart part = {(const uint8_t *)gguf.ptr, gguf.len, "bad.gguf"};
    const GgufFile *file = NULL;
    REQUIRE(gguf_parse(&part, 1, vectors_arena(), &file, err));
    return tokenizer_from_gguf(file, arena, scratch, t, err);
}

TEST(tokenizer_refuses_bad_vocabularies) {
    Tokenizer *t;
    Error err = {0};
    CHECK(load(build(GOOD), &t, vectors_arena(), vectors_scratch(), &err));
    CHECK(load(build(SPM_GOOD), &t, vectors_arena(), vectors_scratch(), &err));
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("fault %d", rows[i].fault);
        err = (Error){0};
        CHECK(!load(build(rows[i].fault), &t, vectors_arena(), vectors_scratch(), &err));
        CHECK_INT_EQ(rows[i].code, err.code);
        CHECK(strstr(err.message, "bad.gguf") != NULL);
        for (size_t k = 0; k < COUNT_OF(rows[i].words) && rows[i].words[k]; k++) {
            if (!CHECK(strstr(err.message, rows[i].words[k]) != NULL)) FAIL("%s", err.message);
        }
    }
}

TEST(tokenizer_load_reports_full_arenas) {
    for (int spm = 0; spm < 2; spm++) {
        Str file = build(spm ? SPM_GOOD : GOOD);
        for (uint64_t failing = 0;; failing++) {
            TEST_CASE_LABEL("spm %d, allocation %d", spm, (int)failing);
            uint64_t countdown = failing;
            Arena arena, scratch = vectors_scratch();
            REQUIRE(arena_split(vectors_arena(), 1 << 22, &arena));
            arena.fail_countdown = scratch.fail_countdown = &countdown;
            Tokenizer *t;
            Error err = {0};
            if (load(file, &t, &arena, scratch, &err)) break;
            CHECK(err.code == ERR_NO_MEMORY || err.code == ERR_UNSUPPORTED);
            REQUIRE(failing < 500);
        }
    }
}

// Bytes and tokens that are missing: what cannot be encoded is left out, or becomes the unknown token;
// nothing breaks.
TEST(tokenizer_encodes_with_poor_vocabularies) {
    Tokenizer *t;
    Error err = {0};
    REQUIRE(load(build(GOOD), &t, vectors_arena(), vectors_scratch(), &err));
    TokenIds ids = vectors_encode(t,
                                  STR("xaybzc \xFF"
                                      "abc"),
                                  0);
    CHECK_INT_EQ(2, ids.count);
    REQUIRE(load(build(SPM_GOOD), &t, vectors_arena(), vectors_scratch(), &err));
    ids = vectors_encode(t, STR("abcxab"), 0);
    CHECK_INT_EQ(2, ids.count);
}
