#include "tokenizer_vectors.h"

#include "base/strbuf.h"
#include "gguf_builder.h"
#include "guard.h"
#include "text/detokenizer.h"

#include <stdio.h>

Arena *vectors_arena(void) {
    static Arena arena;
    if (!arena.next) arena = os_arena(1u << 30);
    return &arena;
}

Arena vectors_scratch(void) {
    static Arena scratch;
    if (!scratch.next) scratch = os_arena(2ull << 30);
    return scratch;
}

const JsonNode *vectors_read(const char *name) {
    char path[256];
    snprintf(path, sizeof path, "vectors/%s", name);
    Str text;
    Error err = {0};
    REQUIRE(os_file_read(test_data_path(path), 1 << 24, vectors_arena(), &text, &err));
    const JsonNode *root = json_parse(text, vectors_arena(), &(JsonLimits){.nodes_max = 1 << 20}, &err);
    REQUIRE(root != NULL);
    return root;
}

Str vectors_str(const JsonNode *node) {
    Str s = {0};
    REQUIRE(json_read_str(node, &s));
    return s;
}

static bool is_listed(const JsonNode *list, Str text) {
    for (const JsonNode *e = json_first(list); e != json_end(list); e = json_next(e)) {
        if (str_eq(vectors_str(e), text)) return true;
    }
    return false;
}

const Tokenizer *vectors_load(Str gguf) {
    const GgufPart part = {(const uint8_t *)gguf.ptr, gguf.len, "vectors"};
    const GgufFile *file = NULL;
    Tokenizer *t = NULL;
    Error err = {0};
    if (!gguf_parse(&part, 1, vectors_arena(), &file, &err) ||
        !tokenizer_from_gguf(file, vectors_arena(), vectors_scratch(), &t, &err)) {
        FAIL("%s", err.message);
        test_end();
    }
    return t;
}

Str *vectors_strs(const JsonNode *list, uint32_t *count) {
    *count = list->length;
    Str *strs = arena_new(vectors_arena(), Str, list->length);
    uint32_t i = 0;
    for (const JsonNode *e = json_first(list); e != json_end(list); e = json_next(e))
        strs[i++] = vectors_str(e);
    return strs;
}

const Tokenizer *vectors_bpe(const JsonNode *root, const char *pre) {
    uint32_t n_tokens, n_merges;
    const Str *tokens = vectors_strs(json_get(root, STR("tokens")), &n_tokens);
    const Str *merges = vectors_strs(json_get(root, STR("merges")), &n_merges);
    int32_t *types = arena_new(vectors_arena(), int32_t, n_tokens);
    for (uint32_t i = 0; i < n_tokens; i++) {
        types[i] = is_listed(json_get(root, STR("special")), tokens[i])        ? 3
                   : is_listed(json_get(root, STR("user_defined")), tokens[i]) ? 4
                                                                               : 1;
    }
    GgufBuilder b = gguf_builder_begin();
    gguf_builder_put_str(&b, "tokenizer.ggml.model", "gpt2");
    gguf_builder_put_str(&b, "tokenizer.ggml.pre", pre);
    gguf_builder_put_strs(&b, "tokenizer.ggml.tokens", tokens, n_tokens);
    gguf_builder_put_i32s(&b, "tokenizer.ggml.token_type", types, n_tokens);
    gguf_builder_put_strs(&b, "tokenizer.ggml.merges", merges, n_merges);
    return vectors_load(gguf_builder_end(&b));
}

const Tokenizer *vectors_spm(const JsonNode *root, bool add_space_prefix) {
    const JsonNode *list = json_get(root, STR("tokens"));
    Str *tokens = arena_new(vectors_arena(), Str, list->length);
    float *scores = arena_new(vectors_arena(), float, list->length);
    int32_t *types = arena_new(vectors_arena(), int32_t, list->length);
    uint32_t n = 0;
    for (const JsonNode *e = json_first(list); e != json_end(list); e = json_next(e), n++) {
        const JsonNode *token = json_first(e), *score = json_next(token);
        double value;
        int64_t type;
        tokens[n] = vectors_str(token);
        REQUIRE(json_read_f64(score, &value) && json_read_i64(json_next(score), &type));
        scores[n] = (float)value;
        types[n] = (int32_t)type;
    }
    GgufBuilder b = gguf_builder_begin();
    gguf_builder_put_str(&b, "tokenizer.ggml.model", "llama");
    gguf_builder_put_strs(&b, "tokenizer.ggml.tokens", tokens, n);
    gguf_builder_put_f32s(&b, "tokenizer.ggml.scores", scores, n);
    gguf_builder_put_i32s(&b, "tokenizer.ggml.token_type", types, n);
    gguf_builder_put_u32(&b, "tokenizer.ggml.bos_token_id", 1);
    gguf_builder_put_u32(&b, "tokenizer.ggml.eos_token_id", 2);
    gguf_builder_put_u32(&b, "tokenizer.ggml.unknown_token_id", 0);
    gguf_builder_put_bool(&b, "tokenizer.ggml.add_space_prefix", add_space_prefix);
    return vectors_load(gguf_builder_end(&b));
}

const Tokenizer *vectors_gemma4(const JsonNode *root) {
    uint32_t n_tokens, n_merges;
    const Str *tokens = vectors_strs(json_get(root, STR("tokens")), &n_tokens);
    const Str *merges = vectors_strs(json_get(root, STR("merges")), &n_merges);
    int32_t *types = arena_new(vectors_arena(), int32_t, n_tokens);
    for (uint32_t i = 0; i < n_tokens; i++)
        types[i] = i < 3 ? 3 : str_starts_with(tokens[i], STR("<0x")) ? 6 : 1;
    GgufBuilder b = gguf_builder_begin();
    gguf_builder_put_str(&b, "tokenizer.ggml.model", "gemma4");
    gguf_builder_put_strs(&b, "tokenizer.ggml.tokens", tokens, n_tokens);
    gguf_builder_put_strs(&b, "tokenizer.ggml.merges", merges, n_merges);
    gguf_builder_put_i32s(&b, "tokenizer.ggml.token_type", types, n_tokens);
    gguf_builder_put_u32(&b, "tokenizer.ggml.unknown_token_id", 0);
    gguf_builder_put_u32(&b, "tokenizer.ggml.bos_token_id", 1);
    gguf_builder_put_u32(&b, "tokenizer.ggml.eos_token_id", 2);
    gguf_builder_put_bool(&b, "tokenizer.ggml.add_space_prefix", false);
    return vectors_load(gguf_builder_end(&b));
}

TokenIds vectors_encode(const Tokenizer *t, Str text, uint32_t flags) {
    static GuardedMemory guarded;
    if (!guarded.begin || (size_t)(guarded.end - guarded.begin) < text.len)
        guarded = guard_allocate(text.len + 4096);
    Arena all = vectors_scratch(), scratch, ids_arena;
    TokenIds ids = {0};
    Error err = {0};
    REQUIRE(arena_split(&all, (size_t)tokenizer_encode_scratch_bytes(t, text.len), &scratch));
    REQUIRE(arena_split(vectors_arena(), (size_t)tokenizer_encode_ids_bytes(t, text.len), &ids_arena));
    REQUIRE(tokenizer_encode(t, guard_press(&guarded, text), flags, &ids_arena, scratch, &ids, &err));
    return ids;
}

Str vectors_decode(const Tokenizer *t, TokenIds ids) {
    Detokenizer d;
    REQUIRE(detokenizer_init(&d, t, vectors_arena()));
    detokenizer_start_text(&d);
    StrBuf out = strbuf_begin_in_arena(vectors_arena());
    for (size_t i = 0; i < ids.count; i++)
        strbuf_put(&out, detokenizer_push(&d, ids.ptr[i]));
    strbuf_put(&out, detokenizer_flush(&d));
    return strbuf_end_in_arena(&out, vectors_arena());
}

TokenIds vectors_ids(const JsonNode *list) {
    int32_t *ids = arena_new(vectors_arena(), int32_t, list->length);
    size_t n = 0;
    for (const JsonNode *e = json_first(list); e != json_end(list); e = json_next(e)) {
        int64_t id = -1;
        REQUIRE(json_read_i64(e, &id));
        ids[n++] = (int32_t)id;
    }
    return (TokenIds){ids, n};
}

TokenIds vectors_expected(const JsonNode *node, bool parsed) {
    const JsonNode *first = json_first(node);
    if (node->length == 0 || first->type != JSON_ARRAY) return vectors_ids(node);
    return vectors_ids(parsed ? json_next(first) : first);
}

static const char *ids_text(TokenIds ids) {
    StrBuf out = strbuf_begin_in_arena(vectors_arena());
    for (size_t i = 0; i < ids.count; i++)
        strbuf_printf(&out, "%d ", ids.ptr[i]);
    return strbuf_end_in_arena(&out, vectors_arena()).ptr;
}

void vectors_check_ids(TokenIds expected, TokenIds found) {
    CHECK_STR_EQ(ids_text(expected), ids_text(found));
}
