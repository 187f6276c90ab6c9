// Calls that have to be made, as the model's format writes them.
#include "base/strbuf.h"
#include "chat/answer_grammar_internal.h"
#include "json/json_writer.h"

// ---- literals of rows ----

GrammarNode call_add_frame(const CallMaker *f, const char *literal) {
    return answer_add_frame(f->answer, f->b, f->format->marks, FORMAT_MARKS_MAX, literal);
}

// The literal where it is text alone; empty where one of its marks is a token, which no text can spell.
static Str text_of_literal(const CallMaker *f, const char *literal) {
    for (uint32_t i = 0; i < FORMAT_MARKS_MAX && f->format->marks[i]; i++) {
        const char *mark = f->format->marks[i];
        bool is_token = tokenizer_token_by_text(f->answer->tokenizer, str_from_c(mark)) != TOKEN_NONE;
        if (is_token && strstr(literal, mark)) return (Str){0};
    }
    return str_from_c(literal);
}

// ---- arguments ----

static bool is_strict(const JsonNode *function) {
    bool strict = false;
    return json_read_bool(json_get(function, STR("strict")), &strict) && strict;
}

bool answer_tools_are_strict(const JsonNode *tools) {
    if (!json_is(tools, JSON_ARRAY)) return false;
    for (const JsonNode *e = json_first(tools); e != json_end(tools); e = json_next(e))
        if (is_strict(json_get(e, STR("function")))) return true;
    return false;
}

// Keywords that say nothing of which members an object has.
static bool names_no_member(Str keyword, const JsonNode *value) {
    static const Str notes[] = {STR("title"),   STR("description"), STR("default"),
                                STR("$schema"), STR("$id"),         STR("$comment"),
                                STR("$defs"),   STR("definitions"), STR("examples")};
    for (size_t i = 0; i < COUNT_OF(notes); i++)
        if (str_eq(keyword, notes[i])) return true;
    return (str_eq(keyword, STR("properties")) || str_eq(keyword, STR("required"))) && value->length == 0;
}

// Arguments are an object: where the parameters exclude those, no call meets them.
static bool check_type(const JsonNode *parameters, Error *err) {
    Str name;
    const JsonNode *type = json_get(parameters, STR("type"));
    bool found = !type || (json_read_str(type, &name) && str_eq(name, STR("object")));
    bool is_list = json_is(type, JSON_ARRAY);
    for (const JsonNode *e = is_list ? json_first(type) : NULL; e && e != json_end(type); e = json_next(e))
        found = found || (json_read_str(e, &name) && str_eq(name, STR("object")));
    return found || error_set(err, ERR_INVALID_REQUEST, "#/type: must allow \"object\"");
}

// The parameters with "type": "object", so that the arguments are an object whatever else the schema allows.
// A tool whose parameters name no member has none: its arguments are an empty object.
// `parameters` NULL and `is_free`: any object.
static const JsonNode *object_schema(const JsonNode *parameters, bool is_free, Arena *arena, Error *err) {
    StrBuf text = strbuf_begin_in_arena(arena);
    JsonWriter w = json_writer_begin(&text);
    json_open_object(&w);
    json_member_str(&w, "type", STR("object"));
    bool is_object = json_is(parameters, JSON_OBJECT), has_members = false;
    for (const JsonNode *key = is_object ? json_first(parameters) : NULL, *value;
         key && key != json_end(parameters); key = json_next(value)) {
        Str name = {0};
        value = json_next(key);
        if (!json_read_str(key, &name) || str_eq(name, STR("type"))) continue;
        has_members = has_members || !names_no_member(name, value);
        json_key_str(&w, name);
        json_put_node(&w, value);
    }
    if (!has_members && !is_free) json_member_bool(&w, "additionalProperties", false);
    json_close_object(&w);
    if (text.truncated) {
        (void)error_set(err, ERR_NO_MEMORY, "no memory for the parameters of a tool");
        return NULL;
    }
    return json_parse(strbuf_end_in_arena(&text, arena), arena, &(JsonLimits){.nodes_max = 1 << 20}, err);
}

typedef struct {
    const ToolFormat *format;
    const Tool *tool;
    char pattern[READING_PATTERN_BYTES];
} Reading;

static void read_argument(void *context, const Str *name, ArgumentReading *out) {
    Reading *r = context;
    // The format says itself what is a string.
    if (r->format->string_key_close) *out = (ArgumentReading){.as_string = true, .as_json = true};
    else answer_reading(name ? answer_tools_types(r->tool, *name) : 0, r->pattern, sizeof r->pattern, out);
}

static SchemaArguments arguments_of(const CallMaker *f, Reading *reading) {
    const ToolFormat *t = f->format;
    SchemaArguments a = {.form = ARGUMENTS_JSON};
    if (t->shape == CALLS_PYTHON) a.form = ARGUMENTS_PYTHON;
    if (t->shape == CALLS_BRACED) {
        a.form = ARGUMENTS_BRACED;
        a.raw_end = text_of_literal(f, t->quote);
        a.quote = call_add_frame(f, t->quote);
    }
    if (t->shape != CALLS_KEYED) return a;
    GrammarNode line = t->value_lines ? grammar_add_literal(f->b, STR("\n")) : GRAMMAR_EMPTY;
    GrammarNode close[] = {line, call_add_frame(f, t->value_close)};
    a = (SchemaArguments){.form = ARGUMENTS_MARKED,
                          .raw_end = text_of_literal(f, t->value_close),
                          .key_open = call_add_frame(f, t->key_open),
                          .key_close = call_add_frame(f, t->key_close),
                          .value_open = line,
                          .value_close = grammar_add_sequence(f->b, close, COUNT_OF(close)),
                          .read = read_argument,
                          .context = reading};
    a.string_key_close = t->string_key_close ? call_add_frame(f, t->string_key_close) : a.key_close;
    return a;
}

static bool add_arguments(const CallMaker *f, Str tool, const JsonNode *function, GrammarNode *out,
                          Error *err) {
    Arena scratch = f->scratch;
    Reading reading = {.format = f->format, .tool = &f->tools->tools[answer_tools_find(f->tools, tool)]};
    SchemaArguments arguments = arguments_of(f, &reading);
    char subject[ANSWER_TOOL_NAME_BYTES_MAX + 32];
    StrBuf b = STRBUF(subject);
    strbuf_printf(&b, "the parameters of %.*s", STR_ARG(tool));
    SchemaOptions options = *f->options;
    options.arguments = &arguments;
    options.subject = strbuf_str(&b);
    bool is_free = f->optional && !is_strict(function);
    const JsonNode *parameters = is_free ? NULL : json_get(function, STR("parameters"));
    const JsonNode *schema =
        check_type(parameters, err) ? object_schema(parameters, is_free, &scratch, err) : NULL;
    if (schema && schema_add(f->b, schema, &options, f->keep, scratch, out, err)) return true;
    return error_prefix(err, "%s", subject);
}

// ---- calls ----

bool call_is_object(const CallMaker *f) {
    const ToolFormat *t = f->format;
    if (t->force != FORCE_NAMED || !t->name_key) return t->force != FORCE_NAMED;
    return tokenizer_token_by_text(f->answer->tokenizer, STR("[ARGS]")) == TOKEN_NONE;
}

// {"name": "look", "arguments": {…}}
static GrammarNode add_object(const CallMaker *f, Str name, GrammarNode arguments) {
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

// <|channel|>commentary to=functions.NAME <|constrain|>json<|message|>{…}, or the recipient in front.
static GrammarNode add_message(const CallMaker *f, Str name, GrammarNode arguments) {
    char text[ANSWER_TOOL_NAME_BYTES_MAX + 32];
    StrBuf to = STRBUF(text);
    strbuf_printf(&to, " to=functions.%.*s", STR_ARG(name));
    GrammarNode recipient = grammar_add_literal(f->b, strbuf_str(&to));
    GrammarNode channel = call_add_frame(f, "<|channel|>commentary");
    GrammarNode types[] = {GRAMMAR_EMPTY, call_add_frame(f, " <|constrain|>json"),
                           grammar_add_literal(f->b, STR(" json"))};
    GrammarNode behind[] = {channel, recipient}, before[] = {recipient, channel};
    GrammarNode orders[] = {grammar_add_sequence(f->b, behind, 2), grammar_add_sequence(f->b, before, 2)};
    GrammarNode parts[] = {grammar_add_choice(f->b, orders, COUNT_OF(orders)),
                           grammar_add_choice(f->b, types, COUNT_OF(types)), call_add_frame(f, "<|message|>"),
                           arguments};
    return grammar_add_sequence(f->b, parts, COUNT_OF(parts));
}

// Whether the reader of answers would take a name for what stands in front of names.
static bool is_before_name(const ToolFormat *t, Str name) {
    return t->before_name && str_starts_with(str_from_c(t->before_name), name);
}

static GrammarNode add_named(const CallMaker *f, const char *before_name, Str name, GrammarNode arguments) {
    const ToolFormat *t = f->format;
    bool is_loose = t->shape == CALLS_PYTHON || t->shape == CALLS_BRACED; // what is behind names is arguments
    GrammarNode literal = grammar_add_literal(f->b, name);
    GrammarNode parts[] = {call_add_frame(f, before_name), literal,
                           is_loose ? GRAMMAR_EMPTY : call_add_frame(f, t->after_names[0]), arguments,
                           call_add_frame(f, t->shape == CALLS_KEYED ? t->end : t->after_arguments)};
    GrammarNode named = grammar_add_sequence(f->b, parts, COUNT_OF(parts));
    if (!t->plain_too || is_before_name(t, name)) return named;
    GrammarNode plain[] = {literal, call_add_frame(f, t->after_names[1]), arguments};
    GrammarNode ways[] = {named, grammar_add_sequence(f->b, plain, COUNT_OF(plain))};
    return grammar_add_choice(f->b, ways, COUNT_OF(ways));
}

static bool check_name(const CallMaker *f, Str name, Error *err) {
    bool ok = true;
    for (size_t i = 0; i < name.len; i++)
        ok = ok && answer_is_name_byte(name.ptr[i]);
    return ok || call_is_object(f) ||
           error_set(err, ERR_INVALID_REQUEST,
                     "the tool \"%.*s\" cannot be called by its name in the format %s", STR_ARG(name),
                     f->format->name);
}

// A call without what opens and closes it; *bare is one without what stands before its name, too.
static bool add_call(const CallMaker *f, Str name, const JsonNode *function, GrammarNode *out,
                     GrammarNode *bare, Error *err) {
    GrammarNode arguments;
    if (!check_name(f, name, err) || !add_arguments(f, name, function, &arguments, err)) return false;
    *out = call_is_object(f)                   ? add_object(f, name, arguments)
           : f->format->shape == CALLS_HARMONY ? add_message(f, name, arguments)
                                               : add_named(f, f->format->before_name, name, arguments);
    *bare = f->optional && f->format->open_too && f->format->before_name ? add_named(f, NULL, name, arguments)
                                                                         : GRAMMAR_NEVER;
    return true;
}

static bool is_allowed(const HeldCalls *calls, Str name) {
    const JsonNode *list = calls->allowed;
    Str other;
    if (calls->only.len) return str_eq(name, calls->only);
    for (const JsonNode *e = list ? json_first(list) : NULL; e && e != json_end(list); e = json_next(e))
        if (answer_tools_read_name(e, &other) && str_eq(name, other)) return true;
    return !list;
}

static bool check_there_is(const CallMaker *f, Str name, Error *err) {
    char text[256];
    StrBuf shown = STRBUF(text);
    if (answer_tools_find(f->tools, name) != TOOL_NONE) return true;
    json_put_shown(&shown, name);
    return error_set(err, ERR_INVALID_REQUEST, "no tool is named '%s'", text);
}

// All that the request names are among the tools.
static bool check_allowed(const CallMaker *f, const HeldCalls *calls, Error *err) {
    const JsonNode *list = calls->allowed;
    Str name;
    if (calls->only.len && !check_there_is(f, calls->only, err)) return false;
    for (const JsonNode *e = list ? json_first(list) : NULL; e && e != json_end(list); e = json_next(e))
        if (answer_tools_read_name(e, &name) && !check_there_is(f, name, err)) return false;
    return true;
}

// A call of any of the tools that are allowed.
static bool add_calls_of_tools(CallMaker *f, const HeldCalls *calls, GrammarNode *out, GrammarNode *bare,
                               Error *err) {
    GrammarNode *ways = arena_new(&f->scratch, GrammarNode, calls->tools->length);
    GrammarNode *bares = arena_new(&f->scratch, GrammarNode, calls->tools->length);
    const char *content = f->format->content_name;
    uint32_t n = 0;
    if (!ways || !bares) return error_set(err, ERR_NO_MEMORY, "no memory for %u tools", calls->tools->length);
    for (const JsonNode *e = json_first(calls->tools); e != json_end(calls->tools); e = json_next(e)) {
        const JsonNode *function = json_get(e, STR("function"));
        Str name;
        if (!json_read_str(json_get(function, STR("name")), &name) || name.len == 0) continue;
        if (!is_allowed(calls, name) || (content && str_eq(name, str_from_c(content)))) continue;
        if (!add_call(f, name, function, &ways[n], &bares[n], err)) return false;
        n++;
    }
    if (n == 0) return error_set(err, ERR_INVALID_REQUEST, "there is no tool that can be called");
    *out = grammar_add_choice(f->b, ways, n);
    *bare = grammar_add_choice(f->b, bares, n);
    return true;
}

bool call_is_listed(const CallMaker *f) {
    const ToolFormat *t = f->format;
    return t->shape == CALLS_PYTHON || t->force == FORCE_LIST ||
           (t->force == FORCE_NAMED && call_is_object(f));
}

GrammarNode call_add_list_rest(const CallMaker *f, GrammarNode call, uint32_t most) {
    GrammarNode next[] = {grammar_add_literal(f->b, STR(", ")), call};
    GrammarNode parts[] = {call, grammar_add_repeat(f->b, grammar_add_sequence(f->b, next, 2), 0, most - 1),
                           grammar_add_literal(f->b, STR("]"))};
    return grammar_add_sequence(f->b, parts, COUNT_OF(parts));
}

GrammarNode call_add_behind_open(const CallMaker *f, GrammarNode call, uint32_t most) {
    GrammarNode blanks = call_is_object(f) ? answer_add_blanks(f->b) : GRAMMAR_EMPTY;
    GrammarNode list[] = {grammar_add_literal(f->b, STR("[")), call_add_list_rest(f, call, most)};
    GrammarNode parts[] = {blanks, call_is_listed(f) ? grammar_add_sequence(f->b, list, 2) : call,
                           call_add_frame(f, f->format->close)};
    return grammar_add_sequence(f->b, parts, COUNT_OF(parts));
}

// One call or a list, with its marks where the format has such.
static GrammarNode add_marks_around(const CallMaker *f, GrammarNode call, uint32_t most) {
    const ToolFormat *t = f->format;
    GrammarNode list[] = {grammar_add_literal(f->b, STR("[")), call_add_list_rest(f, call, most)};
    if (t->bare) return call_is_listed(f) ? grammar_add_sequence(f->b, list, 2) : call;
    GrammarNode parts[] = {call_add_frame(f, t->open), call_add_behind_open(f, call, most)};
    return grammar_add_sequence(f->b, parts, COUNT_OF(parts));
}

// Up to `most` calls, each with its marks. A prompt may have opened the first one.
static GrammarNode add_calls_apart(const CallMaker *f, GrammarNode call, uint32_t most) {
    const ToolFormat *t = f->format;
    bool is_open = f->answer->opening == ANSWER_OPENS_HEADER;
    GrammarNode one = add_marks_around(f, call, 1), blanks = answer_add_blanks(f->b), next[] = {blanks, one};
    GrammarNode parts[] = {call_add_frame(f, t->section_open), t->section_open ? blanks : GRAMMAR_EMPTY,
                           is_open ? call : one,
                           grammar_add_repeat(f->b, grammar_add_sequence(f->b, next, 2), 0, most - 1),
                           call_add_frame(f, t->section_close)};
    return grammar_add_sequence(f->b, parts, COUNT_OF(parts));
}

// Behind "<|start|>assistant". Where <|call|> ends the answer, there is one call.
static GrammarNode add_messages(const CallMaker *f, GrammarNode call, uint32_t most) {
    int32_t id;
    GrammarNode end = answer_add_mark(f->answer, f->b, f->format->close, &id);
    if (id != TOKEN_NONE && tokenizer_is_end(f->answer->tokenizer, id)) return call;
    GrammarNode next[] = {end, call_add_frame(f, "<|start|>assistant"), call};
    GrammarNode parts[] = {call, grammar_add_repeat(f->b, grammar_add_sequence(f->b, next, 3), 0, most - 1),
                           end};
    return grammar_add_sequence(f->b, parts, COUNT_OF(parts));
}

static bool refuse_unknown_format(Error *err) {
    char formats[400];
    StrBuf names = STRBUF(formats);
    answer_put_tool_formats(&names);
    return error_set(err, ERR_INVALID_REQUEST,
                     "calls cannot be forced: it is not known how this model writes them; start the worker "
                     "with --chat-template FILE, a template with tools, or with --tool-format NAME: %s",
                     names.ptr);
}

bool answer_grammar_calls(const AnswerGrammar *a, GrammarBuilder *b, const HeldCalls *calls,
                          const SchemaOptions *options, Arena *keep, Arena scratch, GrammarNode *out,
                          Error *err) {
    const ToolFormat *t = a->formats->tools;
    CallMaker f = {a, t, b, options, NULL, calls->optional, keep, scratch};
    GrammarNode call, bare;
    if (!answer_tools_read(calls->tools, &f.scratch, &f.tools, err)) return false;
    if (!f.tools) return error_set(err, ERR_INVALID_REQUEST, "no tool has a name");
    if (!check_allowed(&f, calls, err)) return false;
    if (!t) return refuse_unknown_format(err);
    if (!add_calls_of_tools(&f, calls, &call, &bare, err)) return false;
    uint32_t most = calls->one ? 1 : FORCED_CALLS_MAX;
    if (t->shape == CALLS_HARMONY) *out = add_messages(&f, call, most);
    else if (calls->optional) return answer_add_optional_calls(&f, call, bare, most, out, err);
    else if (call_is_listed(&f)) *out = add_marks_around(&f, call, most);
    else *out = add_calls_apart(&f, call, t->bare ? 1 : most);
    return true;
}
