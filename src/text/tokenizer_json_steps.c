// What a tokenizer.json does to a text before and after the model: "normalizer", "pre_tokenizer",
// "post_processor" and "decoder". Each is an object with a "type", or a Sequence of such.
#include "base/strbuf.h"
#include "text/tokenizer_json.h"

typedef struct {
    const char *type;
    bool (*load)(TokenizerJson *l, const JsonNode *node);
} Loader;

// Reads an object by its type; the message for one that is not known lists those that are.
static bool load_by_type(TokenizerJson *l, const JsonNode *node, const Loader *loaders, size_t count) {
    Str type;
    if (!json_is(node, JSON_OBJECT)) return json_bad(l, node, "%s, expected an object", json_type_name(node));
    if (!json_need_str(l, node, "type", &type)) return false;
    for (size_t i = 0; i < count; i++) {
        if (str_eq(type, str_from_c(loaders[i].type))) return loaders[i].load(l, node);
    }
    char text[ERROR_MESSAGE_BYTES];
    StrBuf known = STRBUF(text);
    for (size_t i = 0; i < count; i++)
        strbuf_printf(&known, " %s", loaders[i].type);
    return json_unsupported(l, node, "\"%.*s\" is not supported; known are:%s", JSON_SHOWN(type), text);
}

// The elements of a Sequence, one after the other.
static bool load_sequence(TokenizerJson *l, const JsonNode *node, const char *key,
                          bool (*load)(TokenizerJson *l, const JsonNode *node)) {
    const JsonNode *list;
    if (!json_need_array(l, node, key, &list)) return false;
    for (const JsonNode *e = json_first(list); e != json_end(list); e = json_next(e)) {
        if (!load(l, e)) return false;
    }
    return true;
}

// ---- patterns ----

// A text as the regular expression that matches it alone.
static void escape_pattern(Str text, StrBuf *out) {
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        bool is_word = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        if ((uint8_t)c > ' ' && (uint8_t)c < 127 && !is_word) strbuf_put_char(out, '\\');
        strbuf_put_char(out, c);
    }
}

typedef struct {
    Str text;
    char escaped[2048];
    uint32_t size; // the fewest bytes of a match
} Pattern;

// "pattern": {"String": …} or {"Regex": …}
static bool read_pattern(TokenizerJson *l, const JsonNode *node, Pattern *out) {
    const JsonNode *pattern = json_get(node, STR("pattern"));
    StrBuf escaped = STRBUF(out->escaped);
    Str literal;
    out->size = 1;
    if (json_read_str(json_get(pattern, STR("Regex")), &out->text)) return true;
    if (!json_read_str(json_get(pattern, STR("String")), &literal) && !json_read_str(pattern, &literal))
        return json_bad(l, pattern ? pattern : node, "a pattern is {\"String\": …} or {\"Regex\": …}");
    escape_pattern(literal, &escaped);
    out->text = strbuf_str(&escaped);
    out->size = (uint32_t)max_u64(literal.len, 1);
    return !escaped.truncated || json_unsupported(l, pattern, "a pattern of %zu bytes", literal.len);
}

// Puts the place in front of what the engine says about a pattern.
static bool bad_pattern(TokenizerJson *l, const JsonNode *node) {
    l->err->position = node->position;
    return error_prefix(l->err, "%s, byte %u", l->part, node->position);
}

// ---- normalizer ----

static bool load_normalizer(TokenizerJson *l, const JsonNode *node);

static bool add_step(TokenizerJson *l, Normalizer *n, const JsonNode *node, const NormalizerStep *step) {
    return normalizer_add(n, step) || json_unsupported(l, node, "more than %d steps, or %d bytes for one",
                                                       NORMALIZER_STEPS_MAX, NORMALIZER_GROWTH_MAX);
}

static bool load_nfc(TokenizerJson *l, const JsonNode *node) {
    return add_step(l, &l->t->normalizer, node, &(NormalizerStep){.kind = NORMALIZE_NFC});
}

static bool load_nfd(TokenizerJson *l, const JsonNode *node) {
    return add_step(l, &l->t->normalizer, node, &(NormalizerStep){.kind = NORMALIZE_NFD});
}

static bool load_strip_accents(TokenizerJson *l, const JsonNode *node) {
    return add_step(l, &l->t->normalizer, node, &(NormalizerStep){.kind = NORMALIZE_STRIP_ACCENTS});
}

static bool load_strip(TokenizerJson *l, const JsonNode *node) {
    NormalizerStep step = {.kind = NORMALIZE_STRIP, .left = true, .right = true};
    return json_opt_bool(l, node, "strip_left", &step.left) &&
           json_opt_bool(l, node, "strip_right", &step.right) && add_step(l, &l->t->normalizer, node, &step);
}

static bool load_prepend(TokenizerJson *l, const JsonNode *node) {
    NormalizerStep step = {.kind = NORMALIZE_PREPEND};
    if (!json_need_str(l, node, "prepend", &step.content)) return false;
    step.content = json_keep(l, step.content);
    return step.content.ptr ? add_step(l, &l->t->normalizer, node, &step) : json_no_memory(l);
}

static bool load_replace(TokenizerJson *l, const JsonNode *node) {
    NormalizerStep step = {.kind = NORMALIZE_REPLACE};
    Pattern pattern;
    if (!json_need_str(l, node, "content", &step.content) || !read_pattern(l, node, &pattern)) return false;
    step.content = json_keep(l, step.content);
    step.pattern_size = pattern.size;
    if (!step.content.ptr) return json_no_memory(l);
    if (!regex_compile(pattern.text, l->arena, l->scratch, &step.pattern, l->err))
        return bad_pattern(l, node);
    if (step.pattern.matches_empty)
        return json_unsupported(l, node, "Replace of a pattern that matches the empty string");
    return add_step(l, &l->t->normalizer, node, &step);
}

static bool load_normalizers(TokenizerJson *l, const JsonNode *node) {
    return load_sequence(l, node, "normalizers", load_normalizer);
}

static const Loader normalizers[] = {
    {"Sequence", load_normalizers},
    {"NFC", load_nfc},
    {"NFD", load_nfd},
    {"Prepend", load_prepend},
    {"Replace", load_replace},
    {"Strip", load_strip},
    {"StripAccents", load_strip_accents},
};

static bool load_normalizer(TokenizerJson *l, const JsonNode *node) {
    return load_by_type(l, node, normalizers, COUNT_OF(normalizers));
}

bool json_load_normalizer(TokenizerJson *l, const JsonNode *node) {
    l->part = "normalizer";
    return json_is_null(node) || load_normalizer(l, node);
}

// ---- pre_tokenizer ----

// Rust's \w, which the regular expressions of these files do not have the same way.
#define RUST_WORD                                                                                 \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{200C}\\x{200D}\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}" \
    "\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}"

static bool load_pre_tokenizer(TokenizerJson *l, const JsonNode *node);

static bool add_split(TokenizerJson *l, const JsonNode *node, Str pattern, SplitBehavior behavior,
                      bool is_inverted) {
    return pretokenizer_add(&l->t->pretokenizer, pattern, behavior, is_inverted, l->arena, l->scratch,
                            l->err) ||
           bad_pattern(l, node);
}

static bool read_behavior(TokenizerJson *l, const JsonNode *node, SplitBehavior *out) {
    static const char *const names[] = {
        [SPLIT_ISOLATED] = "Isolated",
        [SPLIT_REMOVED] = "Removed",
        [SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
        [SPLIT_MERGED_WITH_NEXT] = "MergedWithNext",
        [SPLIT_CONTIGUOUS] = "Contiguous",
    };
    Str name = str_from_c(names[*out]);
    if (!json_opt_str(l, node, "behavior", &name)) return false;
    for (uint32_t i = 0; i < COUNT_OF(names); i++) {
        if (!str_eq(name, str_from_c(names[i]))) continue;
        *out = (SplitBehavior)i;
        return true;
    }
    return json_unsupported(l, node, "behavior \"%.*s\" is not supported", JSON_SHOWN(name));
}

static bool load_split(TokenizerJson *l, const JsonNode *node) {
    SplitBehavior behavior = SPLIT_ISOLATED;
    bool is_inverted = false;
    Pattern pattern;
    return read_pattern(l, node, &pattern) && read_behavior(l, node, &behavior) &&
           json_opt_bool(l, node, "invert", &is_inverted) &&
           add_split(l, node, pattern.text, behavior, is_inverted);
}

// What is put in must come before the text is cut, which is when it is put in here.
static bool check_uncut(TokenizerJson *l, const JsonNode *node) {
    return l->t->pretokenizer.n_levels == 0 ||
           json_unsupported(l, node, "a step that changes the text behind one that cuts it");
}

static bool load_byte_level(TokenizerJson *l, const JsonNode *node) {
    bool adds_prefix = true, cuts = true;
    NormalizerStep prefix = {.kind = NORMALIZE_PREPEND, .content = STR(" "), .unless_there = true};
    if (!json_opt_bool(l, node, "add_prefix_space", &adds_prefix) ||
        !json_opt_bool(l, node, "use_regex", &cuts))
        return false;
    if (adds_prefix && (!check_uncut(l, node) || !add_step(l, &l->t->inserts, node, &prefix))) return false;
    Str pattern = str_from_c(pretokenizer_find(STR("gpt-2"))->patterns[0]);
    if (cuts && !add_split(l, node, pattern, SPLIT_ISOLATED, false)) return false;
    l->is_byte_level = true;
    return true;
}

static bool load_digits(TokenizerJson *l, const JsonNode *node) {
    bool single = false;
    return json_opt_bool(l, node, "individual_digits", &single) &&
           add_split(l, node, single ? STR("\\p{N}") : STR("\\p{N}+"), SPLIT_ISOLATED, false);
}

static bool load_punctuation(TokenizerJson *l, const JsonNode *node) {
    SplitBehavior behavior = SPLIT_ISOLATED;
    return read_behavior(l, node, &behavior) &&
           add_split(l, node, STR("[!-/:-@\\[-`{-~\\p{P}]"), behavior, false);
}

static bool load_whitespace(TokenizerJson *l, const JsonNode *node) {
    return add_split(l, node, STR("[" RUST_WORD "]+|[^\\s" RUST_WORD "]+"), SPLIT_REMOVED, true);
}

static bool load_whitespace_split(TokenizerJson *l, const JsonNode *node) {
    return add_split(l, node, STR("\\s"), SPLIT_REMOVED, false);
}

// The scheme of a Metaspace, as a pre-tokeniser and as a decoder: a space in front of every stretch of text,
// of the first one, or of none.
typedef enum { PREFIX_ALWAYS, PREFIX_FIRST, PREFIX_NEVER } PrefixScheme;

static bool read_metaspace(TokenizerJson *l, const JsonNode *node, PrefixScheme *out) {
    static const char *const names[] = {"always", "first", "never"};
    Str replacement = STR(WORD_SPACE), scheme = {0};
    bool adds_prefix = true; // the older spelling
    if (!json_opt_str(l, node, "replacement", &replacement) ||
        !json_opt_bool(l, node, "add_prefix_space", &adds_prefix) ||
        !json_opt_str(l, node, "prepend_scheme", &scheme))
        return false;
    if (!str_eq(replacement, STR(WORD_SPACE))) {
        return json_unsupported(l, node, "\"%.*s\" for a space is not supported, only U+2581 is",
                                JSON_SHOWN(replacement));
    }
    *out = adds_prefix ? PREFIX_ALWAYS : PREFIX_NEVER;
    for (uint32_t i = 0; i < COUNT_OF(names); i++) {
        if (!str_eq(scheme, str_from_c(names[i]))) continue;
        *out = (PrefixScheme)i;
        return true;
    }
    return !scheme.ptr ||
           json_unsupported(l, node, "prepend_scheme \"%.*s\" is not supported", JSON_SHOWN(scheme));
}

static bool load_metaspace(TokenizerJson *l, const JsonNode *node) {
    PrefixScheme scheme;
    bool cuts = true;
    if (!check_uncut(l, node) || !read_metaspace(l, node, &scheme) || !json_opt_bool(l, node, "split", &cuts))
        return false;
    if (!tokenizer_replace_spaces(&l->t->inserts, l->arena, l->scratch, l->err)) return bad_pattern(l, node);
    const NormalizerStep prefix = {.kind = NORMALIZE_PREPEND,
                                   .content = STR(WORD_SPACE),
                                   .unless_there = true,
                                   .only_at_start = scheme == PREFIX_FIRST};
    if (scheme != PREFIX_NEVER && !add_step(l, &l->t->inserts, node, &prefix)) return false;
    return !cuts || add_split(l, node, STR(WORD_SPACE), SPLIT_MERGED_WITH_NEXT, false);
}

static bool load_pre_tokenizers(TokenizerJson *l, const JsonNode *node) {
    return load_sequence(l, node, "pretokenizers", load_pre_tokenizer);
}

static const Loader pre_tokenizers[] = {
    {"Sequence", load_pre_tokenizers},
    {"ByteLevel", load_byte_level},
    {"Split", load_split},
    {"Digits", load_digits},
    {"Metaspace", load_metaspace},
    {"Punctuation", load_punctuation},
    {"Whitespace", load_whitespace},
    {"WhitespaceSplit", load_whitespace_split},
};

static bool load_pre_tokenizer(TokenizerJson *l, const JsonNode *node) {
    if (l->is_byte_level) return json_unsupported(l, node, "a step behind ByteLevel, which must be the last");
    return load_by_type(l, node, pre_tokenizers, COUNT_OF(pre_tokenizers));
}

bool json_load_pre_tokenizer(TokenizerJson *l, const JsonNode *node) {
    l->part = "pre_tokenizer";
    if (!json_is_null(node) && !load_pre_tokenizer(l, node)) return false;
    l->t->model = l->is_byte_level ? MODEL_BYTE_BPE : MODEL_CHAR_BPE;
    return true;
}

// ---- decoder ----

static bool load_decoder(TokenizerJson *l, const JsonNode *node);

static bool decode_byte_level(TokenizerJson *l, const JsonNode *node) {
    (void)node;
    l->pieces = PIECES_BYTE_LEVEL;
    return true;
}

static bool decode_metaspace(TokenizerJson *l, const JsonNode *node) {
    PrefixScheme scheme;
    l->pieces = PIECES_SPM;
    if (!read_metaspace(l, node, &scheme)) return false;
    l->t->strips_leading_space = scheme != PREFIX_NEVER;
    return true;
}

static bool decode_replace(TokenizerJson *l, const JsonNode *node) {
    Str content, pattern = {0};
    l->pieces = PIECES_SPM;
    if (!json_need_str(l, node, "content", &content)) return false;
    bool known = json_read_str(json_get(json_get(node, STR("pattern")), STR("String")), &pattern) &&
                 str_eq(pattern, STR(WORD_SPACE)) && str_eq(content, STR(" "));
    return known || json_unsupported(l, node, "Replace is not supported but of U+2581 by a space");
}

static bool decode_bytes(TokenizerJson *l, const JsonNode *node) {
    (void)node;
    l->decodes_bytes = true;
    return true;
}

static bool decode_nothing(TokenizerJson *l, const JsonNode *node) {
    (void)l, (void)node;
    return true;
}

static bool decode_strip(TokenizerJson *l, const JsonNode *node) {
    Str content;
    uint64_t start, stop;
    if (!json_need_str(l, node, "content", &content)) return false;
    bool known = json_read_u64(json_get(node, STR("start")), &start) && start <= 1 &&
                 json_read_u64(json_get(node, STR("stop")), &stop) && stop == 0 && str_eq(content, STR(" "));
    if (!known) return json_unsupported(l, node, "Strip is not supported but of one space at the start");
    l->t->strips_leading_space = start == 1;
    return true;
}

static bool load_decoders(TokenizerJson *l, const JsonNode *node) {
    return load_sequence(l, node, "decoders", load_decoder);
}

static const Loader decoders[] = {
    {"Sequence", load_decoders}, {"ByteLevel", decode_byte_level}, {"Metaspace", decode_metaspace},
    {"Replace", decode_replace}, {"ByteFallback", decode_bytes},   {"Fuse", decode_nothing},
    {"Strip", decode_strip},
};

static bool load_decoder(TokenizerJson *l, const JsonNode *node) {
    return load_by_type(l, node, decoders, COUNT_OF(decoders));
}

bool json_load_decoder(TokenizerJson *l, const JsonNode *node) {
    l->part = "decoder";
    if (json_is_null(node)) return json_bad(l, node, "missing, so that tokens cannot become text");
    l->pieces = l->is_byte_level ? PIECES_SPM : PIECES_BYTE_LEVEL;
    if (!load_decoder(l, node)) return false;
    bool fits = l->pieces == (l->is_byte_level ? PIECES_BYTE_LEVEL : PIECES_SPM);
    return fits || json_unsupported(l, node, "it does not undo what the pre_tokenizer does");
}

// ---- post_processor ----

static bool load_post_processor(TokenizerJson *l, const JsonNode *node);

static bool process_nothing(TokenizerJson *l, const JsonNode *node) {
    (void)l, (void)node;
    return true;
}

// A token that is put in front of the text, or behind it: one at most on each side.
static bool set_outer_token(TokenizerJson *l, const JsonNode *node, const JsonNode *id, bool behind) {
    Tokenizer *t = l->t;
    uint64_t token;
    if (!json_read_u64(id, &token) || token >= t->vocab.count)
        return json_bad(l, id ? id : node, "not the id of a token of the %u", t->vocab.count);
    if (behind ? t->adds_eos : t->adds_bos)
        return json_unsupported(l, node, "more than one token %s the text",
                                behind ? "behind" : "in front of");
    if (behind) t->eos = (int32_t)token, t->adds_eos = true;
    else t->bos = (int32_t)token, t->adds_bos = true;
    return true;
}

// ["<s>", 1]
static bool load_pair(TokenizerJson *l, const JsonNode *node, const char *key, bool behind) {
    const JsonNode *pair;
    if (!json_need_array(l, node, key, &pair)) return false;
    if (pair->length != 2) return json_bad(l, pair, "\"%s\" is not a token and its id", key);
    return set_outer_token(l, pair, json_next(json_first(pair)), behind);
}

static bool process_bert(TokenizerJson *l, const JsonNode *node) {
    return load_pair(l, node, "cls", false) && load_pair(l, node, "sep", true);
}

static bool process_template(TokenizerJson *l, const JsonNode *node) {
    const JsonNode *single;
    bool behind = false;
    if (!json_need_array(l, node, "single", &single)) return false;
    for (const JsonNode *e = json_first(single); e != json_end(single); e = json_next(e)) {
        Str name;
        const JsonNode *special = json_get(e, STR("SpecialToken")), *ids;
        if (json_read_str(json_get(json_get(e, STR("Sequence")), STR("id")), &name) &&
            str_eq(name, STR("A"))) {
            if (behind) return json_unsupported(l, e, "the text twice");
            behind = true;
            continue;
        }
        if (!json_need_str(l, special ? special : e, "id", &name)) return false;
        const JsonNode *token = json_get(json_get(node, STR("special_tokens")), name);
        if (!token) return json_bad(l, e, "\"%.*s\" is not among the special_tokens", JSON_SHOWN(name));
        if (!json_need_array(l, token, "ids", &ids)) return false;
        if (ids->length != 1) return json_unsupported(l, ids, "\"%.*s\" is not one token", JSON_SHOWN(name));
        if (!set_outer_token(l, e, json_first(ids), behind)) return false;
    }
    return behind || json_bad(l, single, "a template without the text");
}

static bool load_post_processors(TokenizerJson *l, const JsonNode *node) {
    return load_sequence(l, node, "processors", load_post_processor);
}

static const Loader post_processors[] = {
    {"Sequence", load_post_processors},       {"ByteLevel", process_nothing},
    {"TemplateProcessing", process_template}, {"RobertaProcessing", process_bert},
    {"BertProcessing", process_bert},
};

static bool load_post_processor(TokenizerJson *l, const JsonNode *node) {
    return load_by_type(l, node, post_processors, COUNT_OF(post_processors));
}

bool json_load_post_processor(TokenizerJson *l, const JsonNode *node) {
    l->part = "post_processor";
    return json_is_null(node) || load_post_processor(l, node);
}
