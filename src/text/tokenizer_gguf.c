// Vocabularies in GGUF files (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, "Tokenizer").
#include "base/strbuf.h"
#include "text/tokenizer_internal.h"

#define KEY_MODEL STR("tokenizer.ggml.model")
#define KEY_PRE STR("tokenizer.ggml.pre")
#define KEY_TOKENS STR("tokenizer.ggml.tokens")
#define KEY_TYPES STR("tokenizer.ggml.token_type")
#define KEY_SCORES STR("tokenizer.ggml.scores")
#define KEY_MERGES STR("tokenizer.ggml.merges")

static bool no_memory(Error *err) {
    return error_set(err, ERR_NO_MEMORY, "no memory for the vocabulary");
}

// Marks that some files have as ordinary tokens: turns would be spelled out and not end, and the text of
// users could end them. (In Gemma 4's vocabulary </s> is a mark of HTML.)
static bool is_mark(const Tokenizer *t, Str text) {
    if (t->model == MODEL_CHAR_BPE && str_eq(text, STR("</s>"))) return false;
    return str_eq(text, STR("<start_of_turn>")) || tokenizer_is_end_text(text);
}

static void warn_of_marks(Tokenizer *t, const Str *texts, const uint8_t *was_mark, uint32_t count,
                          Arena *arena) {
    char names[ERROR_MESSAGE_BYTES / 2];
    StrBuf list = STRBUF(names);
    for (uint32_t i = 0; i < count; i++) {
        if (was_mark[i]) strbuf_printf(&list, "%s%.*s (%u)", list.len ? ", " : "", STR_ARG(texts[i]), i);
    }
    if (list.len) {
        tokenizer_warn(t, arena,
                       "the file has these as ordinary tokens; they are taken as control tokens: %.*s",
                       STR_ARG(strbuf_str(&list)));
    }
}

static bool read_tokens(const GgufFile *file, Tokenizer *t, Arena *arena, Arena scratch, Error *err) {
    GgufArray tokens, types = {0};
    if (!gguf_get_array(file, KEY_TOKENS, GGUF_STRING, &tokens, err)) return false;
    const GgufValue *value = gguf_find_value(file, KEY_TOKENS);
    if (tokens.count == 0 || tokens.count > VOCAB_MAX - 1) {
        return gguf_value_error(file, value, err, "%llu tokens, expected 1 to %d",
                                (unsigned long long)tokens.count, VOCAB_MAX - 1);
    }
    if (!gguf_opt_array(file, KEY_TYPES, GGUF_I32, &types, err)) return false;
    if (types.count && types.count != tokens.count) {
        return gguf_value_error(file, gguf_find_value(file, KEY_TYPES), err, "%llu types for %llu tokens",
                                (unsigned long long)types.count, (unsigned long long)tokens.count);
    }
    uint32_t count = (uint32_t)tokens.count;
    Str *texts = arena_new(arena, Str, count);
    uint8_t *kinds = arena_new(arena, uint8_t, count);
    uint8_t *changed = arena_new(&scratch, uint8_t, count);
    if (!texts || !kinds || !changed) return no_memory(err);
    for (uint32_t i = 0; i < count; i++) {
        int64_t type = types.count ? gguf_array_i64(&types, i) : TOKEN_NORMAL;
        texts[i] = gguf_array_str(&tokens, i);
        kinds[i] = type >= TOKEN_NORMAL && type <= TOKEN_BYTE ? (uint8_t)type : TOKEN_UNUSED;
        changed[i] = types.count && kinds[i] != TOKEN_CONTROL && is_mark(t, texts[i]);
        if (is_mark(t, texts[i])) kinds[i] = TOKEN_CONTROL;
        if (texts[i].len > TOKEN_BYTES_MAX) {
            return gguf_value_error(file, value, err, "token %u has %zu bytes, more than %d", i, texts[i].len,
                                    TOKEN_BYTES_MAX);
        }
    }
    warn_of_marks(t, texts, changed, count, arena);
    uint32_t first, second;
    if (vocab_build(&t->vocab, texts, kinds, count, arena, &first, &second)) return true;
    if (first == second) return no_memory(err);
    return gguf_value_error(file, value, err, "tokens %u and %u are both \"%.*s\"", first, second,
                            (int)min_u64(texts[first].len, 64), texts[first].ptr);
}

// A key that names a token; TOKEN_NONE when it is missing, or out of range, which harms nothing.
static bool read_token_id(const GgufFile *file, Tokenizer *t, Arena *arena, const char *key, int32_t *out,
                          Error *err) {
    uint32_t id = UINT32_MAX;
    *out = TOKEN_NONE;
    const GgufValue *value = gguf_find_value(file, str_from_c(key));
    if (!value) return true;
    // Converters write -1 for none.
    if (value->type != GGUF_I32 && !gguf_get_u32(file, str_from_c(key), &id, err)) return false;
    if (value->type == GGUF_I32) {
        Error ignored;
        if (!gguf_get_u32(file, str_from_c(key), &id, &ignored)) id = UINT32_MAX;
    }
    if (id < t->vocab.count) *out = (int32_t)id;
    else
        tokenizer_warn(t, arena, "%s is %d, no token of the %u; it is passed over", key, (int)id,
                       t->vocab.count);
    return true;
}

// Several ends, as generation_config.json lists them.
static bool read_end_ids(const GgufFile *file, Tokenizer *t, Arena *arena, int32_t *out, uint32_t n_max,
                         Error *err) {
    GgufArray ids = {0};
    if (!gguf_opt_array(file, STR("tokenizer.ggml.eos_token_ids"), GGUF_I32, &ids, err)) return false;
    uint32_t n = 0;
    for (uint64_t i = 0; i < ids.count && n < n_max; i++) {
        int64_t id = gguf_array_i64(&ids, i);
        if (id >= 0 && id < t->vocab.count) out[n++] = (int32_t)id;
        else
            tokenizer_warn(t, arena,
                           "tokenizer.ggml.eos_token_ids has %lld, no token of the %u; it is passed over",
                           (long long)id, t->vocab.count);
    }
    if (ids.count > n_max)
        tokenizer_warn(t, arena, "tokenizer.ggml.eos_token_ids lists %llu tokens; the first %u are taken",
                       (unsigned long long)ids.count, n_max);
    return true;
}

bool tokenizer_read_gguf_ids(const GgufFile *file, Tokenizer *t, Arena *arena, int32_t *bos,
                             int32_t ends[GGUF_ENDS], Error *err) {
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id",     "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id",     "tokenizer.ggml.fim_pad_token_id",
                                       "tokenizer.ggml.fim_rep_token_id", "tokenizer.ggml.fim_sep_token_id"};
    for (uint32_t i = 0; i < GGUF_ENDS; i++)
        ends[i] = TOKEN_NONE;
    for (uint32_t i = 0; i < COUNT_OF(keys); i++) {
        if (!read_token_id(file, t, arena, keys[i], &ends[i], err)) return false;
    }
    return read_token_id(file, t, arena, "tokenizer.ggml.bos_token_id", bos, err) &&
           read_end_ids(file, t, arena, ends + COUNT_OF(keys), GGUF_ENDS - COUNT_OF(keys), err);
}

static bool read_special(const GgufFile *file, Tokenizer *t, Arena *arena, Error *err) {
    int32_t ends[GGUF_ENDS];
    bool ok = tokenizer_read_gguf_ids(file, t, arena, &t->bos, ends, err) &&
              read_token_id(file, t, arena, "tokenizer.ggml.unknown_token_id", &t->unknown, err) &&
              gguf_opt_bool(file, STR("tokenizer.ggml.add_bos_token"), &t->adds_bos, err) &&
              gguf_opt_bool(file, STR("tokenizer.ggml.add_eos_token"), &t->adds_eos, err);
    if (!ok) return false;
    t->eos = ends[0];
    return tokenizer_index_special(t, ends, COUNT_OF(ends), arena) || no_memory(err);
}

// ---- byte-level BPE ----

static bool unknown_pre(const GgufFile *file, const GgufValue *value, Str name, Error *err) {
    gguf_value_error(file, value, err,
                     "pre-tokeniser \"%.*s\" is none of the %u that are known; --tokenizer names a "
                     "tokenizer.json to use instead",
                     (int)min_u64(name.len, 64), name.ptr, pretokenizer_row_count);
    err->code = ERR_UNSUPPORTED;
    return false;
}

// The usual one of an architecture, for files that say nothing (converted before the key was there).
static const char *usual_pre(const GgufFile *file, uint64_t n_tokens) {
    static const struct {
        const char *architecture, *pre;
        uint32_t n_tokens_least;
    } rows[] = {{"llama", "llama-bpe", 128000}, {"llama", "default", 0},      {"qwen2", "qwen2", 0},
                {"qwen2moe", "qwen2", 0},       {"qwen3", "qwen2", 0},        {"qwen3moe", "qwen2", 0},
                {"phi3", "gpt-4o", 200000},     {"phi3", "dbrx", 0},          {"gpt-oss", "gpt-4o", 0},
                {"gpt2", "gpt-2", 0},           {"phi2", "phi-2", 0},         {"starcoder2", "starcoder", 0},
                {"falcon", "falcon", 0},        {"command-r", "command-r", 0}};
    Str name = {0};
    Error ignored;
    if (!gguf_opt_str(file, STR("general.architecture"), &name, &ignored)) return "default";
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        if (str_eq(name, str_from_c(rows[i].architecture)) && n_tokens >= rows[i].n_tokens_least)
            return rows[i].pre;
    }
    return "default";
}

static bool read_merges(const GgufFile *file, Tokenizer *t, Arena *arena, Error *err) {
    GgufArray merges;
    if (!gguf_get_array(file, KEY_MERGES, GGUF_STRING, &merges, err)) return false;
    const GgufValue *value = gguf_find_value(file, KEY_MERGES);
    if (merges.count > BPE_MERGES_MAX) {
        return gguf_value_error(file, value, err, "%llu merges, more than %d",
                                (unsigned long long)merges.count, BPE_MERGES_MAX);
    }
    if (!bpe_init(&t->merges, (uint32_t)merges.count, arena)) return no_memory(err);
    for (uint32_t rank = 0; rank < merges.count; rank += MERGE_GROUP) {
        MergeText group[MERGE_GROUP];
        char joined[TOKEN_BYTES_MAX];
        uint32_t count = (uint32_t)min_u64(MERGE_GROUP, merges.count - rank), bad;
        Str missing;
        for (uint32_t i = 0; i < count; i++) {
            if (tokenizer_split_merge(gguf_array_str(&merges, rank + i), &group[i])) continue;
            return gguf_value_error(file, value, err, "merge %u is not two tokens with a space between",
                                    rank + i);
        }
        if (tokenizer_add_merges(t, group, count, rank, &bad, &missing, joined)) continue;
        return gguf_value_error(file, value, err, "merge %u uses \"%.*s\", which is no token", rank + bad,
                                (int)min_u64(missing.len, 64), missing.ptr);
    }
    return true;
}

static bool load_byte_bpe(const GgufFile *file, Tokenizer *t, Arena *arena, Arena scratch, Error *err) {
    Str name = {0};
    const GgufValue *value = gguf_find_value(file, KEY_PRE);
    if (!gguf_opt_str(file, KEY_PRE, &name, err)) return false;
    if (!value) {
        const GgufValue *tokens = gguf_find_value(file, KEY_TOKENS);
        name = str_from_c(usual_pre(file, tokens && tokens->type == GGUF_ARRAY ? tokens->array.count : 0));
        tokenizer_warn(t, arena,
                       "the file has no %.*s; \"%.*s\" is taken, and where that is wrong, answers are worse",
                       STR_ARG(KEY_PRE), STR_ARG(name));
    }
    const PretokenizerRow *row = pretokenizer_find(name);
    if (!row) return unknown_pre(file, value, name, err);
    t->kind = "gguf-bpe";
    t->model = MODEL_BYTE_BPE;
    t->pre_name = row->name;
    t->whole_words = row->whole_words;
    t->adds_bos = row->adds_bos;
    if (row->nfc && !normalizer_add(&t->normalizer, &(NormalizerStep){.kind = NORMALIZE_NFC}))
        return no_memory(err);
    if (!pretokenizer_compile(row, arena, scratch, &t->pretokenizer, err)) return false;
    if (!read_tokens(file, t, arena, scratch, err) || !read_merges(file, t, arena, err)) return false;
    tokenizer_index_bytes(t);
    bool ok = (vocab_decode_pieces(&t->vocab, PIECES_BYTE_LEVEL, arena) || no_memory(err)) &&
              read_special(file, t, arena, err);
    t->unknown = TOKEN_NONE; // bytes without a token are left out, as in other programs that read these files
    return ok;
}

// ---- SentencePiece ----

static bool read_scores(const GgufFile *file, Tokenizer *t, Arena *arena, Arena scratch, Error *err) {
    GgufArray array;
    if (!gguf_get_array(file, KEY_SCORES, GGUF_F32, &array, err)) return false;
    const GgufValue *value = gguf_find_value(file, KEY_SCORES);
    if (array.count != t->vocab.count) {
        return gguf_value_error(file, value, err, "%llu scores for %u tokens",
                                (unsigned long long)array.count, t->vocab.count);
    }
    float *scores = arena_new(&scratch, float, array.count);
    if (!scores) return no_memory(err);
    for (uint32_t i = 0; i < array.count; i++) {
        scores[i] = gguf_array_f32(&array, i);
        if (scores[i] != scores[i]) return gguf_value_error(file, value, err, "score %u is not a number", i);
    }
    return tokenizer_spm_init(t, scores, arena, scratch) || no_memory(err);
}

static bool contains_ignoring_case(Str text, const char *lower) {
    size_t length = strlen(lower);
    for (size_t at = 0; at + length <= text.len; at++) {
        size_t i = 0;
        while (i < length && (text.ptr[at + i] | 32) == (lower[i] | 32))
            i++;
        if (i == length) return true;
    }
    return false;
}

// Phi-3's turn markers take the white space behind them. GGUF has no field for that, so the model's name
// decides, as in other programs that read these files.
static bool read_phi3_quirk(const GgufFile *file, Tokenizer *t, Error *err) {
    Str name = {0};
    if (!gguf_opt_str(file, STR("general.name"), &name, err)) return false;
    if (!contains_ignoring_case(name, "phi-3") && !contains_ignoring_case(name, "phi3")) return true;
    for (uint32_t id = 0; id < t->vocab.count; id++) {
        Str text = t->vocab.texts[id];
        bool keeps =
            str_eq(text, STR("<unk>")) || str_eq(text, STR("<s>")) || str_eq(text, STR("<|endoftext|>"));
        bool marker = (t->vocab.types[id] == TOKEN_CONTROL && !keeps) || str_eq(text, STR("</s>"));
        if (marker) t->special_flags[id] |= SPECIAL_STRIPS_RIGHT;
    }
    return true;
}

// Spaces are U+2581 before user-defined tokens are looked for, and every stretch between tokens may get one
// in front.
static bool add_spaces(const GgufFile *file, Tokenizer *t, Arena *arena, Arena scratch, Error *err) {
    const NormalizerStep prefix = {.kind = NORMALIZE_PREPEND, .content = STR(WORD_SPACE)};
    t->strips_leading_space = true;
    if (!gguf_opt_bool(file, STR("tokenizer.ggml.add_space_prefix"), &t->strips_leading_space, err) ||
        !tokenizer_replace_spaces(&t->normalizer, arena, scratch, err))
        return false;
    if (t->strips_leading_space && !normalizer_add(&t->inserts, &prefix)) return no_memory(err);
    t->special_flags = arena_new(arena, uint8_t, t->vocab.count);
    if (!t->special_flags) return no_memory(err);
    for (uint32_t id = 0; id < t->vocab.count; id++) {
        Str text = t->vocab.texts[id];
        bool has_space = text.len && (memchr(text.ptr, ' ', text.len) ||
                                      memmem(text.ptr, text.len, WORD_SPACE, WORD_SPACE_BYTES));
        if (has_space && t->vocab.types[id] == TOKEN_USER_DEFINED) t->special_flags[id] = SPECIAL_NORMALIZED;
    }
    return true;
}

static bool load_spm(const GgufFile *file, Tokenizer *t, Arena *arena, Arena scratch, Error *err) {
    t->kind = "gguf-spm";
    t->model = MODEL_SPM;
    t->pre_name = "";
    t->adds_bos = true;
    if (!read_tokens(file, t, arena, scratch, err) || !read_scores(file, t, arena, scratch, err) ||
        !add_spaces(file, t, arena, scratch, err))
        return false;
    memset(t->byte_ids, 0xFF, sizeof t->byte_ids);
    for (uint32_t id = 0; id < t->vocab.count; id++) {
        int byte = t->vocab.types[id] == TOKEN_BYTE ? vocab_parse_byte_token(t->vocab.texts[id]) : -1;
        if (byte >= 0) t->byte_ids[byte] = (int32_t)id;
    }
    return (vocab_decode_pieces(&t->vocab, PIECES_SPM, arena) || no_memory(err)) &&
           read_special(file, t, arena, err) && read_phi3_quirk(file, t, err);
}

// ---- BPE over characters ----

// Gemma 4's: spaces are U+2581, merges are of characters, and a character that is no token is its bytes. (The
// file's scores say the order of the merges once more.)
static bool load_char_bpe(const GgufFile *file, Tokenizer *t, Arena *arena, Arena scratch, Error *err) {
    t->kind = "gguf-char-bpe";
    t->model = MODEL_CHAR_BPE;
    t->pre_name = "";
    t->adds_bos = true;
    t->fuses_unknown = true;
    if (!read_tokens(file, t, arena, scratch, err) || !read_merges(file, t, arena, err) ||
        !add_spaces(file, t, arena, scratch, err))
        return false;
    tokenizer_index_characters(t);
    return (tokenizer_index_cuts(t, arena) || no_memory(err)) &&
           (vocab_decode_pieces(&t->vocab, PIECES_SPM, arena) || no_memory(err)) &&
           read_special(file, t, arena, err);
}

bool tokenizer_from_gguf(const GgufFile *file, Arena *arena, Arena scratch, Tokenizer **out, Error *err) {
    Tokenizer *t = *out = arena_new(arena, Tokenizer, 1);
    Str model;
    if (!t) return no_memory(err);
    if (!gguf_get_str(file, KEY_MODEL, &model, err)) return false;
    if (str_eq(model, STR("gpt2"))) return load_byte_bpe(file, t, arena, scratch, err);
    if (str_eq(model, STR("llama"))) return load_spm(file, t, arena, scratch, err);
    if (str_eq(model, STR("gemma4"))) return load_char_bpe(file, t, arena, scratch, err);
    gguf_value_error(file, gguf_find_value(file, KEY_MODEL), err,
                     "tokenizer model \"%.*s\" is not supported; known are: gpt2 llama gemma4",
                     (int)min_u64(model.len, 64), model.ptr);
    err->code = ERR_UNSUPPORTED;
    return false;
}
