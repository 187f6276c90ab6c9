// tokenizer.json files: what the upstream library makes of texts with them (vectors/README.md), and files
// with something wrong.
#include "base/rng.h"
#include "base/strbuf.h"
#include "json/json_writer.h"
#include "json_vocab.h"
#include "os/os.h"
#include "tokenizer_vectors.h"

static bool try_load(Str json, Tokenizer **t, Error *err) {
    return tokenizer_from_json(json, NULL, vectors_arena(), vectors_scratch(), t, err);
}

static const Tokenizer *load(Str json) {
    Tokenizer *t = NULL;
    Error err = {0};
    if (!try_load(json, &t, &err)) {
        FAIL("%s", err.message);
        test_end();
    }
    return t;
}

static void put_merge(JsonWriter *w, Str merge, bool as_pair) {
    const char *space = memchr(merge.ptr + 1, ' ', merge.len - 1);
    size_t length = (size_t)(space - merge.ptr);
    if (!as_pair) {
        json_put_str(w, merge);
        return;
    }
    json_open_array(w);
    json_put_str(w, str_slice(merge, 0, length));
    json_put_str(w, str_slice(merge, length + 1, merge.len));
    json_close_array(w);
}

typedef struct {
    const Str *tokens, *merges; // in the order of their ids and ranks
    uint32_t n_tokens, n_merges;
} Vocabulary;

// The file with these in place of "vocab":null and of how "merges" are spelled, "pairs" or "strings".
static Str fill_template(Str file, const Vocabulary *v) {
    static const char vocab_key[] = "\"vocab\":null", merges_key[] = "\"merges\":\"";
    const char *vocab = memmem(file.ptr, file.len, vocab_key, strlen(vocab_key));
    const char *merges = memmem(file.ptr, file.len, merges_key, strlen(merges_key));
    REQUIRE(vocab && merges && vocab < merges);
    bool as_pairs = merges[strlen(merges_key)] == 'p';
    const char *rest = memchr(merges + strlen(merges_key), '"', 8) + 1;
    StrBuf out = strbuf_begin_in_arena(vectors_arena());
    strbuf_put(&out, (Str){file.ptr, (size_t)(vocab - file.ptr)});
    strbuf_put(&out, STR("\"vocab\":"));
    JsonWriter w = json_writer_begin(&out);
    json_open_object(&w);
    for (uint32_t id = 0; id < v->n_tokens; id++) {
        json_key_str(&w, v->tokens[id]);
        json_put_u64(&w, id);
    }
    json_close_object(&w);
    strbuf_put(&out, STR(",\"merges\":"));
    w = json_writer_begin(&out);
    json_open_array(&w);
    for (uint32_t rank = 0; rank < v->n_merges; rank++)
        put_merge(&w, v->merges[rank], as_pairs);
    json_close_array(&w);
    strbuf_put(&out, (Str){rest, (size_t)(file.ptr + file.len - rest)});
    return strbuf_end_in_arena(&out, vectors_arena());
}

// ---- upstream ----

static Vocabulary read_vocabulary(const JsonNode *root) {
    Vocabulary v;
    v.tokens = vectors_strs(json_get(root, STR("tokens")), &v.n_tokens);
    v.merges = vectors_strs(json_get(root, STR("merges")), &v.n_merges);
    return v;
}

static void check_decoded(const Tokenizer *t, TokenIds ids, Str text, const JsonNode *expected) {
    Str other;
    if (json_is(expected, JSON_BOOL)) CHECK_STR_EQ(text, vectors_decode(t, ids));
    else if (json_read_str(expected, &other)) CHECK_STR_EQ(other, vectors_decode(t, ids));
}

TEST_SLOW(tokenizer_json_gives_upstream_ids, 120) {
    const JsonNode *root = vectors_read("tokenizer/hf.json"), *rows = json_get(root, STR("rows"));
    const JsonNode *texts = json_get(root, STR("texts"));
    Vocabulary bytes = read_vocabulary(vectors_read("tokenizer/bpe.json")),
               characters = read_vocabulary(root);
    CHECK(texts->length >= 60 && rows->length >= 17);
    for (const JsonNode *row = json_first(rows); row != json_end(rows); row = json_next(row)) {
        Str name = vectors_str(json_get(row, STR("name"))), file = vectors_str(json_get(row, STR("file")));
        bool over_bytes = str_eq(vectors_str(json_get(row, STR("vocab"))), STR("bytes"));
        TEST_CASE_LABEL("%.*s", STR_ARG(name));
        const Tokenizer *t = load(fill_template(file, over_bytes ? &bytes : &characters));
        CHECK_STR_EQ("hf-json", tokenizer_kind(t));
        vectors_check_ids(vectors_ids(json_get(row, STR("the"))),
                          vectors_encode(t, STR("the"), TOKENIZER_ADD_SPECIAL | TOKENIZER_PARSE_SPECIAL));
        const JsonNode *ids = json_first(json_get(row, STR("ids")));
        const JsonNode *decoded = json_first(json_get(row, STR("decoded")));
        for (const JsonNode *c = json_first(texts); c != json_end(texts);
             c = json_next(c), ids = json_next(ids), decoded = json_next(decoded)) {
            Str text = vectors_str(json_next(json_first(c)));
            TEST_CASE_LABEL("%.*s, %.*s", STR_ARG(name), STR_ARG(vectors_str(json_first(c))));
            TokenIds parsed = vectors_encode(t, text, TOKENIZER_PARSE_SPECIAL);
            vectors_check_ids(vectors_expected(ids, false), vectors_encode(t, text, 0));
            vectors_check_ids(vectors_expected(ids, true), parsed);
            check_decoded(t, parsed, text, decoded);
        }
    }
}

static Vocabulary read_gguf_vocabulary(const GgufFile *file) {
    Vocabulary v;
    Error err = {0};
    Str *lists[2];
    static const char *const keys[2] = {"tokenizer.ggml.tokens", "tokenizer.ggml.merges"};
    uint32_t counts[2];
    for (int i = 0; i < 2; i++) {
        GgufArray array;
        REQUIRE(gguf_get_array(file, str_from_c(keys[i]), GGUF_STRING, &array, &err));
        lists[i] = arena_new(vectors_arena(), Str, array.count);
        counts[i] = (uint32_t)array.count;
        for (uint32_t k = 0; k < counts[i]; k++)
            lists[i][k] = gguf_array_str(&array, k);
    }
    v.tokens = lists[0];
    v.merges = lists[1];
    v.n_tokens = counts[0];
    v.n_merges = counts[1];
    return v;
}

// The file that SmolLM2's makers would have published with the vocabulary in its GGUF.
static Str smollm2_json(const GgufFile *file) {
    Vocabulary v = read_gguf_vocabulary(file);
    StrBuf added = strbuf_begin_in_arena(vectors_arena());
    strbuf_put(&added, STR("{\"added_tokens\":"));
    JsonWriter w = json_writer_begin(&added);
    json_open_array(&w);
    for (uint32_t id = 0; id < 17; id++) {
        json_open_object(&w);
        json_member_u64(&w, "id", id);
        json_member_str(&w, "content", v.tokens[id]);
        json_member_bool(&w, "special", true);
        json_close_object(&w);
    }
    json_close_array(&w);
    strbuf_put(&added,
               STR(",\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\","
                   "\"individual_digits\":true},{\"type\":\"ByteLevel\",\"add_prefix_space\":false}]},"
                   "\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"vocab\":null,"
                   "\"merges\":\"strings\"}}"));
    return fill_template(strbuf_end_in_arena(&added, vectors_arena()), &v);
}

TEST_SLOW(tokenizer_json_of_smollm2_gives_upstream_ids, 60) {
    const JsonNode *cases = json_get(vectors_read("smollm2_tokens.json"), STR("cases"));
    const GgufFile *file;
    Tokenizer *t;
    Error err = {0};
    REQUIRE(gguf_open(test_model_path(), vectors_arena(), &file, &err));
    REQUIRE(tokenizer_from_json(smollm2_json(file), file, vectors_arena(), vectors_scratch(), &t, &err));
    CHECK_INT_EQ(49152, tokenizer_vocab_size(t));
    CHECK(tokenizer_is_end(t, 2) && tokenizer_is_end(t, 0) && !tokenizer_is_end(t, 1));
    CHECK_INT_EQ(2, tokenizer_eos(t));
    CHECK_INT_EQ(1, tokenizer_bos(t));
    CHECK(!tokenizer_adds_bos(t));
    for (const JsonNode *c = json_first(cases); c != json_end(cases); c = json_next(c)) {
        Str text = vectors_str(json_get(c, STR("text")));
        TEST_CASE_LABEL("%.*s", STR_ARG(vectors_str(json_get(c, STR("name")))));
        const JsonNode *ids = json_get(c, STR("ids")), *special = json_get(c, STR("ids_special"));
        vectors_check_ids(vectors_ids(ids), vectors_encode(t, text, 0));
        vectors_check_ids(vectors_ids(special ? special : ids),
                          vectors_encode(t, text, TOKENIZER_PARSE_SPECIAL));
    }
}
