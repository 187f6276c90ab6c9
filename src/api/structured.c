#include "api/structured.h"

#include "api/fields.h"
#include "base/hash.h"
#include "grammar/grammar_text_formats.h"
#include "grammar/rx.h"

#include <stdio.h>

// ---- fields ----

static bool is_absent(const JsonNode *node) {
    return !node || json_is(node, JSON_NULL);
}

// Clients of llama-server send "grammar": "" where they mean none, and it takes that so.
static bool is_empty_grammar(const char *field, const JsonNode *node) {
    return strcmp(field, "grammar") == 0 && json_is(node, JSON_STRING) && node->length == 0;
}

// What each kind's value must be.
static bool check_type(StructuredKind kind, const char *field, const JsonNode *node, Error *err) {
    bool is_text = json_is(node, JSON_STRING);
    bool takes_text = kind == STRUCTURED_SCHEMA || kind == STRUCTURED_REGEX || kind == STRUCTURED_GRAMMAR;
    if (takes_text && is_text && node->length == 0)
        return field_refuse(err, field, "must not be empty; leave it out where nothing is asked for");
    switch (kind) {
    case STRUCTURED_NONE:
    case STRUCTURED_CALLS:
    case STRUCTURED_OBJECT: return true;
    case STRUCTURED_SCHEMA:
        return is_text || json_is(node, JSON_OBJECT) || json_is(node, JSON_BOOL) ||
               field_refuse_type(err, field, "a JSON schema", node);
    case STRUCTURED_REGEX:
    case STRUCTURED_GRAMMAR: return is_text || field_refuse_type(err, field, "a string", node);
    case STRUCTURED_CHOICE: break;
    }
    if (!json_is(node, JSON_ARRAY)) return field_refuse_type(err, field, "an array of strings", node);
    if (!node->length) return field_refuse(err, field, "must have at least one string");
    if (node->length > STRUCTURED_CHOICES_MAX) {
        char message[96];
        snprintf(message, sizeof message, "%u strings; at most %d are allowed", node->length,
                 STRUCTURED_CHOICES_MAX);
        return field_refuse(err, field, message);
    }
    for (const JsonNode *e = json_first(node); e != json_end(node); e = json_next(e)) {
        if (!json_is(e, JSON_STRING)) return field_refuse_type(err, field, "an array of strings", e);
    }
    return true;
}

bool structured_read_one(StructuredKind kind, const char *field, const JsonNode *node, StructuredAnswer *out,
                         Error *err) {
    char message[96];
    if (kind != STRUCTURED_OBJECT && kind != STRUCTURED_CALLS && is_absent(node)) return true;
    if (kind == STRUCTURED_GRAMMAR && is_empty_grammar(field, node)) return true;
    if (!check_type(kind, field, node, err)) return false;
    snprintf(message, sizeof message, "goes without %s; both were given", out->field ? out->field : "");
    if (out->kind != STRUCTURED_NONE) return field_refuse(err, field, message);
    out->kind = kind;
    out->field = field;
    out->node = node;
    return true;
}

bool structured_read_format(const char *field, const JsonNode *format, StructuredAnswer *out, Error *err) {
    Str type;
    if (is_absent(format)) return true;
    if (!json_is(format, JSON_OBJECT)) return field_refuse_type(err, field, "an object", format);
    bool has_type = json_read_str(json_get(format, STR("type")), &type);
    if (has_type && str_eq(type, STR("text"))) return true;
    // Chat completions have the schema in an object of its own, the newer APIs beside the type.
    const JsonNode *inner = json_get(format, STR("json_schema"));
    const JsonNode *schema = json_get(json_is(inner, JSON_OBJECT) ? inner : format, STR("schema"));
    if (has_type && str_eq(type, STR("json_object")))
        return is_absent(schema) ? structured_read_one(STRUCTURED_OBJECT, field, format, out, err)
                                 : structured_read_one(STRUCTURED_SCHEMA, field, schema, out, err);
    if (!has_type || !str_eq(type, STR("json_schema")))
        return field_refuse(err, field, "its type must be \"text\", \"json_object\" or \"json_schema\"");
    if (is_absent(schema)) return field_refuse(err, field, "json_schema needs a schema");
    return structured_read_one(STRUCTURED_SCHEMA, field, schema, out, err);
}

// A pattern of the white space in documents of a schema.
static bool read_blanks(const char *field, const JsonNode *node, StructuredAnswer *out, Error *err) {
    if (is_absent(node)) return true;
    if (!json_read_str(node, &out->blank_pattern)) return field_refuse_type(err, field, "a string", node);
    out->blank_field = field;
    return out->blank_pattern.len ||
           field_refuse(err, field, "must not be empty; disable_any_whitespace allows none");
}

// vLLM's object of the same choices.
static bool read_outputs(const JsonNode *node, StructuredAnswer *out, Error *err) {
    static const char field[] = "structured_outputs";
    static const struct {
        const char *name, *field;
        StructuredKind kind;
    } members[] = {{"json", "structured_outputs.json", STRUCTURED_SCHEMA},
                   {"regex", "structured_outputs.regex", STRUCTURED_REGEX},
                   {"choice", "structured_outputs.choice", STRUCTURED_CHOICE},
                   {"grammar", "structured_outputs.grammar", STRUCTURED_GRAMMAR}};
    bool wants_object = false, has_one = false;
    if (is_absent(node)) return true;
    if (!json_is(node, JSON_OBJECT)) return field_refuse_type(err, field, "an object", node);
    (void)!json_read_bool(json_get(node, STR("disable_any_whitespace")), &out->no_blanks);
    if (!is_absent(json_get(node, STR("structural_tag"))))
        return field_refuse(err, field,
                            "structural_tag is not supported; use json, regex, choice or grammar");
    for (size_t i = 0; i < COUNT_OF(members); i++) {
        const JsonNode *member = json_get(node, str_from_c(members[i].name));
        has_one |= !is_absent(member);
        if (!structured_read_one(members[i].kind, members[i].field, member, out, err)) return false;
    }
    has_one |= json_read_bool(json_get(node, STR("json_object")), &wants_object);
    if (!has_one)
        return field_refuse(err, field, "must have one of json, regex, choice, grammar and json_object");
    return read_blanks("structured_outputs.whitespace_pattern", json_get(node, STR("whitespace_pattern")),
                       out, err) &&
           (!wants_object ||
            structured_read_one(STRUCTURED_OBJECT, "structured_outputs.json_object", node, out, err));
}

bool structured_read(const JsonNode *const nodes[STRUCTURED_FIELDS], StructuredAnswer *out, Error *err) {
    return structured_read_format("response_format", nodes[0], out, err) &&
           read_outputs(nodes[1], out, err) &&
           structured_read_one(STRUCTURED_SCHEMA, "guided_json", nodes[2], out, err) &&
           structured_read_one(STRUCTURED_REGEX, "guided_regex", nodes[3], out, err) &&
           structured_read_one(STRUCTURED_CHOICE, "guided_choice", nodes[4], out, err) &&
           structured_read_one(STRUCTURED_GRAMMAR, "guided_grammar", nodes[5], out, err) &&
           structured_read_one(STRUCTURED_GRAMMAR, "grammar", nodes[6], out, err) &&
           structured_read_one(STRUCTURED_SCHEMA, "json_schema", nodes[7], out, err) &&
           structured_read_one(STRUCTURED_REGEX, "regex", nodes[8], out, err) &&
           structured_read_one(STRUCTURED_GRAMMAR, "ebnf", nodes[9], out, err) &&
           read_blanks("guided_whitespace_pattern", nodes[10], out, err);
}

// ---- compiling ----

// The memory of one compilation: what lasts, and what is used.
typedef struct {
    GrammarBuilder *builder;
    Arena *keep;
    Arena scratch;
    uint64_t work_max;
    const LangStop *stop;
    const Tokenizer *tokenizer;
} Compile;

static SchemaOptions schema_options(const Compile *c, const StructuredAnswer *a) {
    return (SchemaOptions){.blanks = a->no_blanks           ? SCHEMA_BLANKS_NONE
                                     : a->blank_pattern.len ? SCHEMA_BLANKS_PATTERN
                                                            : SCHEMA_BLANKS_FEW,
                           .blank_pattern = a->blank_pattern,
                           .schema_order = true,
                           .plain_numbers = true,
                           .work_max = c->work_max,
                           .stop = c->stop};
}

static bool add_schema(Compile *c, const StructuredAnswer *a, GrammarNode *out, Error *err) {
    SchemaOptions options = schema_options(c, a);
    Str text = STR("{\"type\":\"object\"}");
    const JsonNode *root = a->node;
    if (a->kind == STRUCTURED_OBJECT || json_read_str(a->node, &text))
        root = json_parse(text, &c->scratch, &(JsonLimits){0}, err);
    if (!root) return error_prefix(err, "the schema is a string, which is read as JSON");
    return schema_add(c->builder, root, &options, c->keep, c->scratch, out, err);
}

static bool add_regex(Compile *c, Str pattern, GrammarNode *out, Error *err) {
    Lang lang;
    Dfa *dfa = arena_new(c->keep, Dfa, 1);
    Rx rx = rx_begin(&c->scratch);
    uint32_t root;
    LangMaker m = {.keep = &c->scratch, .work_max = c->work_max, .stop = c->stop};
    // The upper half is each operation's own, as in schema_add.
    m.scratch = c->scratch;
    m.scratch.next = c->scratch.end = c->scratch.next + arena_left(&c->scratch) / 2;
    if (!dfa) return error_set(err, ERR_NO_MEMORY, "no memory for the pattern");
    if (!rx_read_pattern(&rx, pattern, RX_WHOLE, &m, &root, err) || !rx_compile(&rx, root, &m, &lang, err))
        return false;
    m.keep = c->keep;
    if (!dfa_from_lang(&m, &lang, LANG_UTF8, (Str){0}, (Str){0}, dfa, err)) return false;
    *out = grammar_add_dfa(c->builder, dfa);
    return true;
}

static bool add_choice(Compile *c, const JsonNode *list, GrammarNode *out, Error *err) {
    Str *texts = arena_new(&c->scratch, Str, list->length);
    uint32_t n = 0;
    if (!texts) return error_set(err, ERR_NO_MEMORY, "no memory for %u texts", list->length);
    for (const JsonNode *e = json_first(list); e != json_end(list); e = json_next(e))
        (void)!json_read_str(e, &texts[n++]);
    *out = grammar_add_texts(c->builder, texts, n);
    return true;
}

static bool add_grammar(Compile *c, Str text, GrammarNode *out, Error *err) {
    LangMaker m = {.keep = c->keep, .work_max = c->work_max, .stop = c->stop};
    Arena scratch = c->scratch;
    m.scratch = c->scratch;
    m.scratch.next = scratch.end = scratch.next + arena_left(&scratch) / 2;
    bool is_gbnf = memmem(text.ptr, text.len, "::=", 3) != NULL;
    if (is_gbnf) return gbnf_read(text, c->tokenizer, c->builder, &m, scratch, out, err);
    if (lark_read(text, c->tokenizer, c->builder, &m, scratch, out, err)) return true;
    Error why = *err;
    return error_set(err, err->code, "%s (it is read as Lark, as \"::=\" is not in it)", why.message);
}

static bool check_blanks(const Compile *c, const StructuredAnswer *a, Error *err) {
    bool has_blanks =
        a->kind == STRUCTURED_SCHEMA || a->kind == STRUCTURED_OBJECT || a->kind == STRUCTURED_CALLS;
    if (!a->blank_pattern.len) return true;
    return has_blanks ? schema_check_blanks(a->blank_pattern, c->scratch, err)
                      : error_set(err, ERR_INVALID_REQUEST, "goes with a schema alone");
}

static bool add(Compile *c, const StructuredAnswer *a, GrammarNode *out, Error *err) {
    Str text = {0};
    (void)!json_read_str(a->node, &text);
    switch (a->kind) {
    case STRUCTURED_NONE:
    case STRUCTURED_CALLS: break;
    case STRUCTURED_OBJECT:
    case STRUCTURED_SCHEMA: return add_schema(c, a, out, err);
    case STRUCTURED_REGEX: return add_regex(c, text, out, err);
    case STRUCTURED_CHOICE: return add_choice(c, a->node, out, err);
    case STRUCTURED_GRAMMAR: return add_grammar(c, text, out, err);
    }
    *out = GRAMMAR_NEVER;
    return true;
}

static bool compile(const StructuredAnswer *a, const AnswerGrammar *chat, Compile *c, const Grammar **out,
                    Error *err) {
    GrammarNode root;
    SchemaOptions options = schema_options(c, a);
    bool is_calls = a->kind == STRUCTURED_CALLS;
    bool ok = !is_calls ? add(c, a, &root, err)
                        : answer_grammar_calls(chat, c->builder, &a->calls, &options, c->keep, c->scratch,
                                               &root, err);
    if (!ok) return false;
    AnswerKind kind = !is_calls ? ANSWER_IS_TEXT : a->calls.optional ? ANSWER_MAY_CALL : ANSWER_IS_CALLS;
    if (chat && !answer_grammar_after_reasoning(chat, c->builder, root, kind, &root, err)) return false;
    return grammar_compile(c->builder, root, c->keep, c->scratch, out, err);
}

bool structured_compile(const StructuredAnswer *a, const AnswerGrammar *chat, const Tokenizer *t,
                        uint64_t work_max, const LangStop *stop, Arena scratch, Arena *arena,
                        const Grammar **out, bool *too_large, Error *err) {
    *too_large = false;
    Arena nodes = scratch, keep = *arena;
    nodes.end = scratch.next = scratch.next + arena_left(&scratch) / 4;
    Compile c = {.builder = grammar_builder_new(&nodes),
                 .keep = &keep,
                 .scratch = scratch,
                 .work_max = work_max,
                 .stop = stop,
                 .tokenizer = t};
    *err = (Error){0};
    if (c.builder) grammar_bound_work(c.builder, work_max, stop);
    bool has_memory = c.builder || error_set(err, ERR_NO_MEMORY, "no memory for a grammar");
    bool good_blanks = has_memory && check_blanks(&c, a, err);
    if (good_blanks && compile(a, chat, &c, out, err)) {
        *arena = keep;
        return true;
    }
    const char *field = has_memory && !good_blanks ? a->blank_field : a->field;
    *too_large = err->code == ERR_TOO_LARGE || err->code == ERR_NO_MEMORY;
    if (err->code == ERR_NO_MEMORY)
        (void)error_set(err, ERR_TOO_LARGE, "its automata and rules take more memory than one answer may");
    return error_of_field(err, field);
}

// ---- keys ----

static void add_text(Sha256 *h, Str text) {
    uint64_t length = text.len;
    sha256_add(h, &length, sizeof length);
    if (text.len) sha256_add(h, text.ptr, text.len);
}

// Each node in the order of the document, with its size: no two values are the same bytes.
static void add_node(Sha256 *h, const JsonNode *root) {
    for (const JsonNode *node = root, *end = root ? json_next(root) : NULL; node != end;) {
        bool is_container = json_is(node, JSON_ARRAY) || json_is(node, JSON_OBJECT);
        uint32_t head[2] = {node->type, node->length};
        Str digits;
        sha256_add(h, head, sizeof head);
        if (json_is(node, JSON_STRING)) add_text(h, (Str){node->as.string, node->length});
        else if (json_is(node, JSON_BOOL)) sha256_add(h, &node->as.boolean, sizeof node->as.boolean);
        else if (json_is_number(node)) sha256_add(h, &node->as.u64, sizeof node->as.u64);
        if (json_number_text(node, &digits)) add_text(h, digits);
        node = is_container ? node + 1 : json_next(node);
    }
}

void structured_key(const StructuredAnswer *a, const AnswerGrammar *chat, uint8_t key[32]) {
    Sha256 h;
    uint32_t facts[] = {a->kind,
                        a->no_blanks,
                        a->calls.one,
                        a->calls.optional,
                        a->calls.allowed != NULL,
                        chat ? 1 + (uint32_t)chat->opening : 0};
    sha256_begin(&h);
    sha256_add(&h, facts, sizeof facts);
    add_text(&h, str_from_c(a->field)); // messages name it
    add_text(&h, str_from_c(a->blank_field));
    add_text(&h, a->blank_pattern);
    add_text(&h, a->calls.only);
    add_node(&h, a->calls.allowed);
    add_node(&h, a->kind == STRUCTURED_CALLS    ? a->calls.tools
                 : a->kind == STRUCTURED_OBJECT ? NULL
                                                : a->node);
    sha256_end(&h, key);
}
