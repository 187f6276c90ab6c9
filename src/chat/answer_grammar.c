#include "chat/answer_grammar.h"

#include "chat/answer_internal.h"
#include "json/json_writer.h"

enum { BLANKS_MAX = 8, HARMONY_MESSAGES_MAX = 8 };

static GrammarNode add_blanks(GrammarBuilder *b) {
    static const Str blanks[] = {STR(" "), STR("\n"), STR("\t"), STR("\r")};
    return grammar_add_repeat(b, grammar_add_texts(b, blanks, COUNT_OF(blanks)), 0, BLANKS_MAX);
}

// A mark as its token, or as text where the vocabulary has none. *id is TOKEN_NONE then.
static GrammarNode add_mark(const AnswerGrammar *a, GrammarBuilder *b, const char *mark, int32_t *id) {
    Str text = str_from_c(mark);
    *id = tokenizer_token_by_text(a->tokenizer, text);
    return *id == TOKEN_NONE ? grammar_add_literal(b, text) : grammar_add_tokens(b, id, 1);
}

// Anything up to a mark, and the mark.
static GrammarNode add_until(const AnswerGrammar *a, GrammarBuilder *b, const char *mark) {
    int32_t id;
    Str text = str_from_c(mark);
    GrammarNode close = add_mark(a, b, mark, &id);
    if (id == TOKEN_NONE) return grammar_add_text_until(b, &text, 1);
    GrammarNode other = grammar_add_tokens_except(b, &id, 1);
    GrammarNode parts[] = {grammar_add_repeat(b, other, 0, GRAMMAR_UNBOUNDED), close};
    return grammar_add_sequence(b, parts, COUNT_OF(parts));
}

// GPT-OSS: <|channel|>analysis<|message|>…<|end|><|start|>assistant, any number of times, and then
// <|channel|>final<|message|> and the content.
static GrammarNode add_harmony(const AnswerGrammar *a, GrammarBuilder *b, GrammarNode content) {
    int32_t id;
    GrammarNode channel = add_mark(a, b, "<|channel|>", &id), message = add_mark(a, b, "<|message|>", &id);
    GrammarNode start = add_mark(a, b, "<|start|>", &id);
    GrammarNode thought[] = {channel, grammar_add_literal(b, STR("analysis")),
                             message, add_until(a, b, "<|end|>"),
                             start,   grammar_add_literal(b, STR("assistant"))};
    GrammarNode answer[] = {
        grammar_add_repeat(b, grammar_add_sequence(b, thought, COUNT_OF(thought)), 0, HARMONY_MESSAGES_MAX),
        channel, grammar_add_literal(b, STR("final")), message, content};
    return grammar_add_sequence(b, answer, COUNT_OF(answer));
}

bool answer_grammar_after_reasoning(const AnswerGrammar *a, GrammarBuilder *b, GrammarNode content,
                                    GrammarNode *out, Error *err) {
    const ReasoningFormat *f = a->formats->reasoning;
    *out = content;
    bool is_harmony = answer_is_harmony(a->formats);
    if (is_harmony && a->opening == ANSWER_OPENS_HEADER) {
        *out = add_harmony(a, b, content);
        return true;
    }
    if (is_harmony && a->opening == ANSWER_OPENS_CONTENT) return true;
    if (is_harmony || a->opening == ANSWER_OPENS_HEADER)
        return error_set(err, ERR_INVALID_REQUEST, "answers in the format %s cannot be held to anything",
                         answer_tool_format_name(a->formats));
    if (!f) return true;
    int32_t id;
    GrammarNode behind[] = {add_until(a, b, f->close), add_blanks(b), content};
    GrammarNode closes = grammar_add_sequence(b, behind, COUNT_OF(behind));
    if (a->opening == ANSWER_OPENS_REASONING) {
        *out = closes;
        return true;
    }
    GrammarNode opens[] = {add_mark(a, b, f->open, &id), closes};
    GrammarNode ways[] = {content, grammar_add_sequence(b, opens, COUNT_OF(opens))};
    *out = grammar_add_choice(b, ways, COUNT_OF(ways));
    return true;
}

// ---- calls ----

typedef struct {
    const AnswerGrammar *answer;
    const ToolFormat *format;
    GrammarBuilder *b;
    const SchemaOptions *options;
    Arena *keep;
    Arena scratch;
} Forced;

// The length of the format's mark that the text begins with, and its node; 0: there is none.
static size_t find_mark(const Forced *f, Str text, GrammarNode *out) {
    for (uint32_t i = 0; i < FORMAT_MARKS_MAX && f->format->marks[i]; i++) {
        int32_t id;
        const char *mark = f->format->marks[i];
        if (!str_starts_with(text, str_from_c(mark))) continue;
        *out = add_mark(f->answer, f->b, mark, &id);
        return strlen(mark);
    }
    return 0;
}

// A literal of a row; where it has a wildcard, a number.
static GrammarNode add_frame(const Forced *f, const char *literal) {
    static const Str digits[] = {STR("0"), STR("1"), STR("2"), STR("3"), STR("4"),
                                 STR("5"), STR("6"), STR("7"), STR("8"), STR("9")};
    enum { PARTS_MAX = 16 };
    GrammarNode parts[PARTS_MAX], mark;
    uint32_t n = 0;
    Str rest = str_from_c(literal);
    while (rest.len && n < PARTS_MAX) {
        size_t length = find_mark(f, rest, &mark);
        if (length) parts[n++] = mark;
        else if (*rest.ptr == ' ') parts[n++] = add_blanks(f->b), length = 1;
        else if (*rest.ptr == '*') parts[n++] = grammar_add_texts(f->b, digits, 10), length = 1;
        else {
            while (++length < rest.len && rest.ptr[length] != ' ' && rest.ptr[length] != '*' &&
                   !find_mark(f, str_slice(rest, length, rest.len), &mark)) {
            }
            parts[n++] = grammar_add_literal(f->b, str_slice(rest, 0, length));
        }
        rest = str_slice(rest, length, rest.len);
    }
    return grammar_add_sequence(f->b, parts, n);
}

// The parameters with "type": "object", so that the arguments are an object whatever else the schema allows.
static const JsonNode *object_schema(const JsonNode *parameters, Arena *arena, Error *err) {
    StrBuf text = strbuf_begin_in_arena(arena);
    JsonWriter w = json_writer_begin(&text);
    json_open_object(&w);
    json_member_str(&w, "type", STR("object"));
    bool has_members = json_is(parameters, JSON_OBJECT);
    for (const JsonNode *key = has_members ? json_first(parameters) : NULL, *value;
         key && key != json_end(parameters); key = json_next(value)) {
        Str name = {0};
        value = json_next(key);
        if (!json_read_str(key, &name) || str_eq(name, STR("type"))) continue;
        json_key_str(&w, name);
        json_put_node(&w, value);
    }
    json_close_object(&w);
    if (text.truncated) {
        (void)error_set(err, ERR_NO_MEMORY, "no memory for the parameters of a tool");
        return NULL;
    }
    return json_parse(strbuf_end_in_arena(&text, arena), arena, &(JsonLimits){.nodes_max = 1 << 20}, err);
}

static bool add_arguments(const Forced *f, Str tool, const JsonNode *parameters, GrammarNode *out,
                          Error *err) {
    Arena scratch = f->scratch;
    const JsonNode *schema = object_schema(parameters, &scratch, err);
    if (schema && schema_add(f->b, schema, f->options, f->keep, scratch, out, err)) return true;
    return error_prefix(err, "the parameters of %.*s", STR_ARG(tool));
}

static bool writes_objects(const Forced *f) {
    const ToolFormat *t = f->format;
    int32_t behind_name = t->force == FORCE_NAMED && t->name_key
                              ? tokenizer_token_by_text(f->answer->tokenizer, STR("[ARGS]"))
                              : 0;
    return t->force != FORCE_NAMED || behind_name == TOKEN_NONE;
}

// {"name": "look", "arguments": {…}}
static GrammarNode add_object(const Forced *f, Str name, GrammarNode arguments) {
    char text[2 * ANSWER_TOOL_NAME_BYTES_MAX + 128];
    const char *key = f->format->arguments_key;
    StrBuf head = STRBUF(text);
    JsonWriter w = json_writer_begin(&head);
    strbuf_printf(&head, "{\"%s\": ", f->format->name_key);
    json_put_str(&w, name);
    strbuf_printf(&head, ", \"%s\": ", key ? key : "arguments");
    GrammarNode parts[] = {grammar_add_literal(f->b, strbuf_str(&head)), arguments,
                           grammar_add_literal(f->b, STR("}"))};
    return grammar_add_sequence(f->b, parts, COUNT_OF(parts));
}

static GrammarNode add_named(const Forced *f, Str name, GrammarNode arguments) {
    const ToolFormat *t = f->format;
    GrammarNode parts[] = {t->before_name ? add_frame(f, t->before_name) : GRAMMAR_EMPTY,
                           grammar_add_literal(f->b, name), add_frame(f, t->after_names[0]), arguments,
                           t->after_arguments ? add_frame(f, t->after_arguments) : GRAMMAR_EMPTY};
    return grammar_add_sequence(f->b, parts, COUNT_OF(parts));
}

// A call of any of the tools, without what opens and closes it.
static bool add_calls_of_tools(Forced *f, const ForcedCalls *calls, GrammarNode *out, Error *err) {
    GrammarNode *ways = arena_new(&f->scratch, GrammarNode, calls->tools->length);
    uint32_t n = 0;
    if (!ways) return error_set(err, ERR_NO_MEMORY, "no memory for %u tools", calls->tools->length);
    for (const JsonNode *e = json_first(calls->tools); e != json_end(calls->tools); e = json_next(e)) {
        const JsonNode *function = json_get(e, STR("function"));
        Str name;
        GrammarNode arguments;
        if (!json_read_str(json_get(function, STR("name")), &name)) continue;
        if (name.len > ANSWER_TOOL_NAME_BYTES_MAX || (calls->only.len && !str_eq(name, calls->only)))
            continue;
        if (!add_arguments(f, name, json_get(function, STR("parameters")), &arguments, err)) return false;
        ways[n++] = writes_objects(f) ? add_object(f, name, arguments) : add_named(f, name, arguments);
    }
    if (n == 0) return error_set(err, ERR_INVALID_REQUEST, "no tool has the name that has to be called");
    *out = grammar_add_choice(f->b, ways, n);
    return true;
}

static GrammarNode add_list(const Forced *f, GrammarNode call, uint32_t most) {
    GrammarNode next[] = {grammar_add_literal(f->b, STR(", ")), call};
    GrammarNode parts[] = {grammar_add_literal(f->b, STR("[")), call,
                           grammar_add_repeat(f->b, grammar_add_sequence(f->b, next, 2), 0, most - 1),
                           grammar_add_literal(f->b, STR("]"))};
    return grammar_add_sequence(f->b, parts, COUNT_OF(parts));
}

// With the marks around one call, or around a list.
static GrammarNode add_marks_around(const Forced *f, GrammarNode call) {
    const ToolFormat *t = f->format;
    if (t->bare) return call;
    GrammarNode parts[] = {add_frame(f, t->open), add_blanks(f->b), call,
                           t->close ? add_frame(f, t->close) : GRAMMAR_EMPTY};
    return grammar_add_sequence(f->b, parts, COUNT_OF(parts));
}

bool answer_grammar_calls(const AnswerGrammar *a, GrammarBuilder *b, const ForcedCalls *calls,
                          const SchemaOptions *options, Arena *keep, Arena scratch, GrammarNode *out,
                          Error *err) {
    const ToolFormat *t = a->formats->tools;
    Forced f = {a, t, b, options, keep, scratch};
    GrammarNode call;
    if (!t || t->force == FORCE_NOT)
        return error_set(
            err, ERR_INVALID_REQUEST,
            "calls cannot be forced in this model's format (%s); \"auto\" and \"none\" are supported",
            answer_tool_format_name(a->formats));
    uint32_t most = calls->one || t->bare ? 1 : FORCED_CALLS_MAX;
    if (!add_calls_of_tools(&f, calls, &call, err)) return false;
    if (t->force == FORCE_LIST || (t->force == FORCE_NAMED && writes_objects(&f))) {
        *out = add_marks_around(&f, add_list(&f, call, calls->one ? 1 : FORCED_CALLS_MAX));
        return true;
    }
    GrammarNode one = add_marks_around(&f, call), next[] = {add_blanks(b), one};
    GrammarNode parts[] = {t->section_open ? add_frame(&f, t->section_open) : GRAMMAR_EMPTY, one,
                           grammar_add_repeat(b, grammar_add_sequence(b, next, 2), 0, most - 1),
                           t->section_close ? add_frame(&f, t->section_close) : GRAMMAR_EMPTY};
    *out = grammar_add_sequence(b, parts, COUNT_OF(parts));
    return true;
}
