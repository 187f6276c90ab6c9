// The vocabulary of a tokenizer.json: "model" and "added_tokens".
#include "text/tokenizer_json.h"

#include "base/strbuf.h"
#include "base/utf8.h"

// ---- reading members ----

void tokenizer_json_fail(TokenizerJson *l, ErrCode code, const JsonNode *node, const char *format, ...) {
    char text[ERROR_MESSAGE_BYTES];
    StrBuf message = STRBUF(text);
    va_list args;
    va_start(args, format);
    strbuf_vprintf(&message, format, args);
    va_end(args);
    if (!node) {
        error_fill(l->err, code, ERROR_NO_POSITION, "%s: %s", l->part, text);
        return;
    }
    error_fill(l->err, code, node->position, "%s, byte %u: %s", l->part, node->position, text);
}

bool json_no_memory(TokenizerJson *l) {
    return error_set(l->err, ERR_NO_MEMORY, "no memory for the vocabulary");
}

bool json_opt_bool(TokenizerJson *l, const JsonNode *object, const char *key, bool *out) {
    const JsonNode *node = json_get(object, str_from_c(key));
    return json_is_null(node) || json_read_bool(node, out) ||
           json_bad(l, node, "\"%s\" is %s, expected a boolean", key, json_type_name(node));
}

bool json_opt_str(TokenizerJson *l, const JsonNode *object, const char *key, Str *out) {
    const JsonNode *node = json_get(object, str_from_c(key));
    return json_is_null(node) || json_read_str(node, out) ||
           json_bad(l, node, "\"%s\" is %s, expected a string", key, json_type_name(node));
}

bool json_need_str(TokenizerJson *l, const JsonNode *object, const char *key, Str *out) {
    const JsonNode *node = json_get(object, str_from_c(key));
    return json_read_str(node, out) ||
           json_bad(l, node ? node : object, "\"%s\" is %s, expected a string", key, json_type_name(node));
}

bool json_need_array(TokenizerJson *l, const JsonNode *object, const char *key, const JsonNode **out) {
    const JsonNode *node = *out = json_get(object, str_from_c(key));
    return json_is(node, JSON_ARRAY) ||
           json_bad(l, node ? node : object, "\"%s\" is %s, expected an array", key, json_type_name(node));
}

Str json_keep(TokenizerJson *l, Str s) {
    // Strings with escapes lie among the nodes, which are in front of the scratch that is left.
    return arena_copy_str(l->arena, s);
}

// ---- tokens ----

static bool read_id(TokenizerJson *l, const JsonNode *node, Str token, uint32_t *out) {
    uint64_t id;
    if (!json_read_u64(node, &id)) {
        return json_bad(l, node, "the id of \"%.*s\" is %s, expected a whole number", JSON_SHOWN(token),
                        json_type_name(node));
    }
    if (id >= VOCAB_MAX - 1) {
        return json_bad(l, node, "the id of \"%.*s\" is %llu, more than %d", JSON_SHOWN(token),
                        (unsigned long long)id, VOCAB_MAX - 2);
    }
    *out = (uint32_t)id;
    return true;
}

typedef struct {
    Str json; // the file
    Str *texts;
    uint8_t *types;
    uint32_t count;  // the largest id and one more
    uint32_t n_rows; // of the model's embedding, 0 when it is not known
} TokenList;

// An added token beyond the model's rows, such as the one that stands for an image in a model that has no
// eyes: it is left out.
static bool is_beyond_model(const TokenList *list, uint32_t id) {
    return list->n_rows && id >= list->n_rows;
}

static bool add_token(TokenizerJson *l, TokenList *list, const JsonNode *node, Str text, uint32_t id,
                      uint8_t type) {
    if (text.len > TOKEN_BYTES_MAX) {
        return json_bad(l, node, "token %u has %zu bytes, more than %d", id, text.len, TOKEN_BYTES_MAX);
    }
    if (list->texts[id].ptr) {
        return json_bad(l, node, "\"%.*s\" and \"%.*s\" both have the id %u", JSON_SHOWN(list->texts[id]),
                        JSON_SHOWN(text), id);
    }
    bool in_place = text.ptr >= list->json.ptr && text.ptr < list->json.ptr + list->json.len;
    list->texts[id] = in_place ? text : json_keep(l, text);
    list->types[id] = type;
    return list->texts[id].ptr || json_no_memory(l);
}

// The largest id of all tokens, and whether they are well-formed at all.
static bool count_tokens(TokenizerJson *l, const JsonNode *vocab, const JsonNode *added, TokenList *list) {
    uint32_t id;
    l->part = "model.vocab";
    for (const JsonNode *k = json_first(vocab), *v; k != json_end(vocab); k = json_next(v)) {
        v = json_next(k);
        if (!read_id(l, v, (Str){k->as.string, k->length}, &id)) return false;
        list->count = (uint32_t)max_u64(list->count, id + 1);
    }
    if (list->n_rows && list->count > list->n_rows) {
        return json_bad(l, vocab, "ids up to %u do not fit the model, which has %u tokens", list->count - 1,
                        list->n_rows);
    }
    l->part = "added_tokens";
    for (const JsonNode *e = added ? json_first(added) : NULL; added && e != json_end(added);
         e = json_next(e)) {
        Str text;
        if (!json_is(e, JSON_OBJECT)) return json_bad(l, e, "%s, expected an object", json_type_name(e));
        if (!json_need_str(l, e, "content", &text)) return false;
        const JsonNode *node = json_get(e, STR("id"));
        if (!node) return json_bad(l, e, "\"%.*s\" has no id", JSON_SHOWN(text));
        if (!read_id(l, node, text, &id)) return false;
        if (!is_beyond_model(list, id)) list->count = (uint32_t)max_u64(list->count, id + 1);
    }
    if (list->count == 0) return json_bad(l, vocab, "no tokens");
    if (list->n_rows > VOCAB_PADDING_MAX && list->count < list->n_rows - VOCAB_PADDING_MAX) {
        return json_bad(l, vocab, "%u tokens do not fit the model, which has %u", list->count, list->n_rows);
    }
    return true;
}

// Only these tokens can be made by merging, so that t->vocab holds no others for now.
static bool read_vocab(TokenizerJson *l, const JsonNode *vocab, const JsonNode *added, TokenList *list) {
    Tokenizer *t = l->t;
    uint32_t first, second;
    if (!count_tokens(l, vocab, added, list)) return false;
    list->texts = arena_new(l->arena, Str, list->count);
    list->types = arena_new(l->arena, uint8_t, list->count);
    t->special_flags = arena_new(l->arena, uint8_t, list->count);
    if (!list->texts || !list->types || !t->special_flags) return json_no_memory(l);
    memset(list->types, TOKEN_UNUSED, list->count);
    l->part = "model.vocab";
    for (const JsonNode *k = json_first(vocab), *v; k != json_end(vocab); k = json_next(v)) {
        v = json_next(k);
        uint32_t id = (uint32_t)v->as.u64;
        if (!json_is(v, JSON_U64) && !read_id(l, v, (Str){0}, &id)) return false; // 5.0 is 5, too
        if (!add_token(l, list, k, (Str){k->as.string, k->length}, id, TOKEN_NORMAL)) return false;
    }
    if (!vocab_build(&t->vocab, list->texts, list->types, list->count, &l->scratch, &first, &second)) {
        if (first == second) return json_no_memory(l);
        return json_bad(l, vocab, "\"%.*s\" has two ids, %u and %u", JSON_SHOWN(list->texts[first]), first,
                        second);
    }
    return true;
}

// ---- added tokens ----

static bool read_added_flags(TokenizerJson *l, const JsonNode *e, uint8_t *flags, uint8_t *type) {
    static const struct {
        const char *key;
        uint8_t flag;
    } rows[] = {{"lstrip", SPECIAL_STRIPS_LEFT},
                {"rstrip", SPECIAL_STRIPS_RIGHT},
                {"single_word", SPECIAL_SINGLE_WORD},
                {"normalized", SPECIAL_NORMALIZED}};
    bool special = false;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        bool set = false;
        if (!json_opt_bool(l, e, rows[i].key, &set)) return false;
        if (set) *flags |= rows[i].flag;
    }
    if (!json_opt_bool(l, e, "special", &special)) return false;
    *type = special ? TOKEN_CONTROL : TOKEN_USER_DEFINED;
    return true;
}

// Tokens that are in the vocabulary get their types there; the others get ids beyond it, mostly.
static bool read_added(TokenizerJson *l, const JsonNode *added, TokenList *list) {
    Tokenizer *t = l->t;
    uint32_t first, second;
    l->part = "added_tokens";
    for (const JsonNode *e = added ? json_first(added) : NULL; added && e != json_end(added);
         e = json_next(e)) {
        Str text;
        uint32_t id;
        uint8_t type;
        if (!json_need_str(l, e, "content", &text)) return false;
        if (!read_id(l, json_get(e, STR("id")), text, &id)) return false;
        if (is_beyond_model(list, id)) continue;
        int32_t known = vocab_find(&t->vocab, text);
        if (known >= 0 && (uint32_t)known != id) {
            return json_bad(l, e, "\"%.*s\" has the id %u, but %d in the vocabulary", JSON_SHOWN(text), id,
                            known);
        }
        if (!read_added_flags(l, e, &t->special_flags[id], &type)) return false;
        if (known >= 0) list->types[id] = type, t->special_flags[id] |= SPECIAL_IN_MODEL;
        else if (!add_token(l, list, e, text, id, type)) return false;
    }
    // Once more, with these.
    if (vocab_build(&t->vocab, list->texts, list->types, list->count, l->arena, &first, &second)) return true;
    if (first == second) return json_no_memory(l);
    return json_bad(l, added, "\"%.*s\" has two ids, %u and %u", JSON_SHOWN(list->texts[first]), first,
                    second);
}

// ---- merges ----

static bool read_merge(TokenizerJson *l, const JsonNode *node, uint32_t rank, MergeText *out) {
    Str text = {0};
    if (json_read_str(node, &text)) {
        if (tokenizer_split_merge(text, out)) return true;
        return json_bad(l, node, "merge %u is not two tokens with a space between", rank);
    }
    const JsonNode *left = json_first(node);
    bool is_pair = json_is(node, JSON_ARRAY) && node->length == 2 && json_read_str(left, &out->left) &&
                   json_read_str(json_next(left), &out->right) && out->left.len && out->right.len &&
                   out->left.len + out->right.len <= TOKEN_BYTES_MAX;
    return is_pair || json_bad(l, node, "merge %u is not a pair of tokens", rank);
}

static bool read_merges(TokenizerJson *l, const JsonNode *model) {
    const JsonNode *merges, *nodes[MERGE_GROUP];
    Tokenizer *t = l->t;
    l->part = "model";
    if (!json_need_array(l, model, "merges", &merges)) return false;
    l->part = "model.merges";
    if (merges->length > BPE_MERGES_MAX) {
        return json_bad(l, merges, "%u merges, more than %d", merges->length, BPE_MERGES_MAX);
    }
    if (!bpe_init(&t->merges, merges->length, l->arena)) return json_no_memory(l);
    const JsonNode *node = json_first(merges);
    for (uint32_t rank = 0; rank < merges->length; rank += MERGE_GROUP) {
        MergeText group[MERGE_GROUP];
        char joined[TOKEN_BYTES_MAX];
        uint32_t count = (uint32_t)min_u64(MERGE_GROUP, merges->length - rank), bad;
        Str missing;
        for (uint32_t i = 0; i < count; i++, node = json_next(node)) {
            nodes[i] = node;
            if (!read_merge(l, node, rank + i, &group[i])) return false;
        }
        if (tokenizer_add_merges(t, group, count, rank, &bad, &missing, joined)) continue;
        return json_bad(l, nodes[bad], "merge %u uses \"%.*s\", which is no token", rank + bad,
                        JSON_SHOWN(missing));
    }
    return true;
}

// ---- the model ----

static bool refuse_string(TokenizerJson *l, const JsonNode *model, const char *key) {
    Str text = {0};
    if (!json_opt_str(l, model, key, &text)) return false;
    return text.len == 0 || json_unsupported(l, json_get(model, str_from_c(key)),
                                             "a %s (\"%.*s\") is not supported", key, JSON_SHOWN(text));
}

static bool read_model_options(TokenizerJson *l, const JsonNode *model, bool *falls_back) {
    Tokenizer *t = l->t;
    Str unknown = {0};
    double dropout = 0;
    l->part = "model";
    const JsonNode *node = json_get(model, STR("dropout"));
    if (!json_is_null(node) && (!json_read_f64(node, &dropout) || dropout != 0))
        return json_unsupported(l, node, "dropout is not supported");
    if (!refuse_string(l, model, "continuing_subword_prefix") ||
        !refuse_string(l, model, "end_of_word_suffix") ||
        !json_opt_bool(l, model, "ignore_merges", &t->whole_words) ||
        !json_opt_bool(l, model, "fuse_unk", &t->fuses_unknown) ||
        !json_opt_bool(l, model, "byte_fallback", falls_back) ||
        !json_opt_str(l, model, "unk_token", &unknown))
        return false;
    t->unknown = TOKEN_NONE;
    if (!unknown.ptr) return true;
    t->unknown = vocab_find(&t->vocab, unknown);
    return t->unknown >= 0 || json_bad(l, json_get(model, STR("unk_token")),
                                       "the unknown token \"%.*s\" is no token", JSON_SHOWN(unknown));
}

// The tokens of characters and bytes.
static void index_symbols(TokenizerJson *l, bool falls_back, TokenList *list) {
    Tokenizer *t = l->t;
    if (t->model == MODEL_BYTE_BPE) {
        tokenizer_index_bytes(t);
        return;
    }
    tokenizer_index_characters(t);
    for (uint32_t byte = 0; byte < 256; byte++) {
        int32_t id = t->byte_ids[byte];
        if (id >= 0 && l->decodes_bytes && list->types[id] == TOKEN_NORMAL) list->types[id] = TOKEN_BYTE;
    }
    if (!falls_back) memset(t->byte_ids, 0xFF, sizeof t->byte_ids);
}

// A token that the model's file names and the model has, but not this vocabulary, shows that it is another
// model's.
static bool check_model_ids(TokenizerJson *l, const GgufFile *model, uint32_t n_rows) {
    static const char *const keys[] = {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"};
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        uint32_t id = 0;
        Error ignored; // read again, where a wrong type is an error and an id out of range a warning
        if (!gguf_find_value(model, str_from_c(keys[i])) ||
            !gguf_get_u32(model, str_from_c(keys[i]), &id, &ignored))
            continue;
        if (id >= l->t->vocab.count && id < n_rows) {
            return error_set(l->err, ERR_BAD_FILE,
                             "%s of the model is token %u of a vocabulary of %u: it is another model's",
                             keys[i], id, l->t->vocab.count);
        }
    }
    return true;
}

// What the model's file knows and the tokenizer.json does not.
static bool read_model_file(TokenizerJson *l, const GgufFile *model, uint32_t n_rows) {
    Tokenizer *t = l->t;
    if (model && !check_model_ids(l, model, n_rows)) return false;
    int32_t ends[GGUF_ENDS], bos = TOKEN_NONE;
    for (uint32_t i = 0; i < GGUF_ENDS; i++)
        ends[i] = TOKEN_NONE;
    if (model && !tokenizer_read_gguf_ids(model, t, l->arena, &bos, ends, l->err)) return false;
    if (t->bos == TOKEN_NONE) t->bos = bos;
    if (t->eos == TOKEN_NONE) t->eos = ends[0];
    return tokenizer_index_special(t, ends, COUNT_OF(ends), l->arena) || json_no_memory(l);
}

static bool load_model(TokenizerJson *l, const JsonNode *root, TokenList *list) {
    const JsonNode *model = json_get(root, STR("model")), *added = json_get(root, STR("added_tokens"));
    Str type = STR("BPE");
    bool falls_back = false;
    l->part = "model";
    if (!json_is(model, JSON_OBJECT))
        return json_bad(l, model, "%s, expected an object", json_type_name(model));
    if (!json_opt_str(l, model, "type", &type)) return false;
    if (!str_eq(type, STR("BPE"))) {
        return json_unsupported(l, json_get(model, STR("type")), "\"%.*s\" is not supported, only \"BPE\" is",
                                JSON_SHOWN(type));
    }
    const JsonNode *vocab = json_get(model, STR("vocab"));
    if (!json_is(vocab, JSON_OBJECT))
        return json_bad(l, vocab ? vocab : model, "\"vocab\" is %s, expected an object",
                        json_type_name(vocab));
    if (json_is_null(added)) added = NULL;
    if (added && added->type != JSON_ARRAY)
        return json_bad(l, added, "\"added_tokens\" is %s, expected an array", json_type_name(added));
    if (!read_vocab(l, vocab, added, list) || !read_model_options(l, model, &falls_back) ||
        !read_merges(l, model))
        return false;
    index_symbols(l, falls_back, list);
    if (l->t->model == MODEL_CHAR_BPE && !tokenizer_index_cuts(l->t, l->arena)) return json_no_memory(l);
    return read_added(l, added, list);
}

static uint32_t embedding_rows(const GgufFile *model) {
    const GgufTensor *tensor = model ? gguf_find_tensor(model, STR("token_embd.weight")) : NULL;
    return tensor ? (uint32_t)min_u64(tensor->dims[1], UINT32_MAX) : 0;
}

static bool load_root(TokenizerJson *l, const JsonNode *root, Str json, const GgufFile *model) {
    TokenList list = {.json = json, .n_rows = embedding_rows(model)};
    l->part = "tokenizer.json";
    if (!json_is(root, JSON_OBJECT)) return json_bad(l, root, "%s, expected an object", json_type_name(root));
    return json_load_normalizer(l, json_get(root, STR("normalizer"))) &&
           json_load_pre_tokenizer(l, json_get(root, STR("pre_tokenizer"))) &&
           json_load_decoder(l, json_get(root, STR("decoder"))) && load_model(l, root, &list) &&
           (vocab_decode_pieces(&l->t->vocab, l->pieces, l->arena) || json_no_memory(l)) &&
           json_load_post_processor(l, json_get(root, STR("post_processor"))) &&
           read_model_file(l, model, list.n_rows);
}

bool tokenizer_from_json(Str json, const GgufFile *model, Arena *arena, Arena scratch, Tokenizer **out,
                         Error *err) {
    TokenizerJson l = {.arena = arena, .scratch = scratch, .err = err};
    Tokenizer *t = *out = l.t = arena_new(arena, Tokenizer, 1);
    if (!t) return json_no_memory(&l);
    t->kind = "hf-json";
    t->pre_name = "";
    t->bos = t->eos = t->unknown = TOKEN_NONE;
    if (json.len > TOKENIZER_JSON_BYTES_MAX) {
        return error_set(err, ERR_BAD_FILE, "%zu bytes, more than the %d of the largest tokenizer.json read",
                         json.len, TOKENIZER_JSON_BYTES_MAX);
    }
    const JsonLimits limits = {.nodes_max = TOKENIZER_JSON_NODES_MAX, .error_code = ERR_BAD_FILE};
    const JsonNode *root = json_parse(json, &l.scratch, &limits, err);
    return root && load_root(&l, root, json, model);
}
