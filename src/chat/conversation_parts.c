// What the three APIs' conversations share.
#include "chat/conversation_internal.h"

#include "base/strbuf.h"
#include "chat/answer_tools.h"
#include "json/json_writer.h"

#include <stdio.h>

// ---- errors ----

static void put_place(StrBuf *out, const Place *p) {
    // Never more than a handful: a place is a chain of callers.
    if (p->parent) put_place(out, p->parent);
    if (!p->name) strbuf_printf(out, "[%u]", p->index);
    else strbuf_printf(out, "%s%s", out->len ? "." : "", p->name);
}

bool fail_at(Maker *m, const Place *where, const char *format, ...) {
    char place[128], text[ERROR_MESSAGE_BYTES];
    StrBuf b = STRBUF(place);
    put_place(&b, where);
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    error_fill(m->err, ERR_INVALID_REQUEST, ERROR_NO_POSITION, "%s: %s", place, text);
    StrBuf field = STRBUF(m->err->field); // cut where it is longer
    strbuf_put(&field, strbuf_str(&b));
    return false;
}

bool fail_type(Maker *m, const Place *where, const char *expected, const JsonNode *found) {
    (void)fail_at(m, where, "must be %s, found %s", expected, json_type_name(found));
    if (found) m->err->position = found->position;
    return false;
}

bool fail_value(Maker *m, const Place *where, Str found, const char *reason) {
    char text[68];
    StrBuf shown = STRBUF(text);
    json_put_shown(&shown, found);
    return fail_at(m, where, "\"%s\" %s", text, reason);
}

// ---- reading ----

const JsonNode *member(const JsonNode *object, const char *name) {
    const JsonNode *value = json_get(object, str_from_c(name));
    return json_is(value, JSON_NULL) ? NULL : value;
}

bool read_string(Maker *m, const Place *where, const JsonNode *node, Str *out) {
    return json_read_str(node, out) || fail_type(m, where, "a string", node);
}

bool read_optional_string(Maker *m, const Place *object_at, const JsonNode *object, const char *name,
                          Str *out) {
    const JsonNode *value = member(object, name);
    Place where = place_member(object_at, name);
    *out = (Str){0};
    return !value || read_string(m, &where, value, out);
}

bool read_optional_bool(Maker *m, const JsonNode *object, const char *name, bool *out) {
    const JsonNode *value = member(object, name);
    Place where = place_member(NULL, name);
    return !value || json_read_bool(value, out) || fail_type(m, &where, "a boolean", value);
}

bool read_optional_array(Maker *m, const char *name, const JsonNode **out) {
    Place where = place_member(NULL, name);
    *out = member(m->in->root, name);
    return !*out || (*out)->type == JSON_ARRAY || fail_type(m, &where, "an array", *out);
}

bool read_type(Maker *m, const Place *where, const JsonNode *object, Str *out) {
    Place type_at = place_member(where, "type");
    return object->type == JSON_OBJECT ? read_string(m, &type_at, member(object, "type"), out)
                                       : fail_type(m, where, "an object", object);
}

bool read_effort(Maker *m, const Place *object_at, const JsonNode *object, const char *name, Str *out) {
    Place where = place_member(object_at, name);
    if (!read_optional_string(m, object_at, object, name, out)) return false;
    for (size_t i = 0; i < out->len; i++)
        if (out->ptr[i] < 'a' || out->ptr[i] > 'z')
            return fail_value(m, &where, *out, "is not known; usual are none, low, medium and high");
    return !out->ptr || (out->len > 0 && out->len <= 16) ||
           fail_value(m, &where, *out, "is not known; usual are none, low, medium and high");
}

bool is_one_of(Str name, const char *const *names) {
    for (; names && *names; names++)
        if (str_eq(name, str_from_c(*names))) return true;
    return false;
}

// ---- contents ----

void put_member(Maker *m, const char *key, Str value) {
    json_build_key(&m->b, str_from_c(key));
    json_build_str(&m->b, value);
}

// Kinds of parts that are text, and the member that holds it.
static const struct {
    const char *kind, *member;
} text_parts[] = {
    {"text", "text"},
    {"input_text", "text"},
    {"output_text", "text"},
    {"refusal", "refusal"},
};

static bool read_part(Maker *m, const Place *where, const JsonNode *part, Str kind, Str *out) {
    for (size_t i = 0; i < COUNT_OF(text_parts); i++) {
        if (!str_eq(kind, str_from_c(text_parts[i].kind))) continue;
        Place text_at = place_member(where, text_parts[i].member);
        return read_string(m, &text_at, member(part, text_parts[i].member), out);
    }
    Place type_at = place_member(where, "type");
    return fail_value(m, &type_at, kind, "is not supported; this model reads text alone");
}

static void put_text_part(Maker *m, Str text) {
    json_build_open(&m->b, JSON_OBJECT);
    put_member(m, "type", STR("text"));
    put_member(m, "text", text);
    json_build_close(&m->b);
}

void put_content_text(Maker *m, Str text) {
    if (!m->in->content_parts) {
        json_build_str(&m->b, text);
        return;
    }
    json_build_open(&m->b, JSON_ARRAY);
    put_text_part(m, text);
    json_build_close(&m->b);
}

void put_no_content(Maker *m) {
    if (m->in->no_null_content) put_content_text(m, STR(""));
    else json_build_null(&m->b);
}

// The texts of the parts, joined with line ends. transformers hands a list to the template, and templates for
// text print it as Python shows it; so vLLM and llama.cpp join the texts first, with line ends, and clients
// have come to expect that.
bool put_content(Maker *m, const Place *where, const JsonNode *content, const char *const *others) {
    Str text, kind;
    if (json_read_str(content, &text)) {
        put_content_text(m, text);
        return true;
    }
    if (!json_is(content, JSON_ARRAY)) return fail_type(m, where, "a string or an array of parts", content);
    uint32_t index = 0, n_texts = 0;
    if (m->in->content_parts) json_build_open(&m->b, JSON_ARRAY);
    else json_build_text_begin(&m->b);
    for (const JsonNode *p = json_first(content); p != json_end(content); p = json_next(p)) {
        Place part_at = place_element(where, index++);
        if (!read_type(m, &part_at, p, &kind)) return false;
        if (is_one_of(kind, others)) continue;
        if (!read_part(m, &part_at, p, kind, &text)) return false;
        if (m->in->content_parts) {
            put_text_part(m, text);
            continue;
        }
        if (n_texts++) json_build_text(&m->b, STR("\n"));
        json_build_text(&m->b, text);
    }
    if (m->in->content_parts) json_build_close(&m->b);
    else json_build_text_end(&m->b);
    return true;
}

void put_reasoning(Maker *m, Str text, bool with_thinking) {
    put_member(m, "reasoning_content", text);           // Qwen3, DeepSeek, GLM, Nemotron
    put_member(m, "reasoning", text);                   // Gemma 4
    if (with_thinking) put_member(m, "thinking", text); // GPT-OSS
}

// ---- calls and their results ----

static void remember_call(Maker *m, Str id, Str name) {
    if (id.len) m->calls[m->n_calls++ % CALLS_REMEMBERED] = (CallName){id, name};
}

// Of the last calls, the latest first.
static Str name_of_call(const Maker *m, Str id) {
    uint64_t n = min_u64(m->n_calls, CALLS_REMEMBERED);
    for (uint64_t i = 1; i <= n; i++) {
        const CallName *call = &m->calls[(m->n_calls - i) % CALLS_REMEMBERED];
        if (str_eq(call->id, id)) return call->name;
    }
    return (Str){0};
}

static bool is_blank(Str text) {
    for (size_t i = 0; i < text.len; i++)
        if (!memchr(" \t\r\n", text.ptr[i], 4)) return false;
    return true;
}

static bool put_parsed_arguments(Maker *m, const Place *where, Str text) {
    uint32_t before = m->b.count;
    JsonLimits limits = {.nodes_max = CONVERSATION_ARGUMENT_NODES_MAX - m->argument_nodes};
    char reason[256];
    if (is_blank(text)) { // a call without arguments, as some clients write it
        json_build_open(&m->b, JSON_OBJECT);
        json_build_close(&m->b);
        return true;
    }
    if (limits.nodes_max == 0)
        return fail_at(m, where, "more than %d values", CONVERSATION_ARGUMENT_NODES_MAX);
    if (!json_build_parsed(&m->b, text, &limits, m->err)) {
        if (m->err->code == ERR_NO_MEMORY) return false;
        snprintf(reason, sizeof reason, "%.200s", m->err->message);
        return fail_at(m, where, "must be a string with a JSON object in it: %s", reason);
    }
    if (m->b.full) return true; // told at the end
    m->argument_nodes += m->b.count - before;
    const JsonNode *value = &m->b.nodes[before];
    return value->type == JSON_OBJECT ||
           fail_at(m, where, "must be a string with a JSON object in it, not with %s", json_type_name(value));
}

bool put_call(Maker *m, const Place *arguments_at, Str id, Str name, const JsonNode *arguments) {
    remember_call(m, id, name);
    json_build_open(&m->b, JSON_OBJECT);
    if (id.len) put_member(m, "id", id);
    put_member(m, "type", STR("function"));
    json_build_key(&m->b, STR("function"));
    json_build_open(&m->b, JSON_OBJECT);
    put_member(m, "name", name);
    json_build_key(&m->b, STR("arguments"));
    if (json_is(arguments, JSON_OBJECT)) json_build_node(&m->b, arguments);
    else if (arguments && arguments->type != JSON_STRING)
        return fail_type(m, arguments_at, "a string with a JSON object in it", arguments);
    else if (!put_parsed_arguments(m, arguments_at, arguments ? node_str(arguments) : (Str){0})) return false;
    json_build_close(&m->b);
    json_build_close(&m->b);
    return true;
}

void put_result_head(Maker *m, Str id, bool has_name) {
    Str name = has_name ? (Str){0} : name_of_call(m, id);
    put_member(m, "role", STR("tool"));
    put_member(m, "tool_call_id", id);
    if (name.len) put_member(m, "name", name);
}

// ---- tools ----

static bool is_name_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
}

bool check_tool_name(Maker *m, const Place *where, Str name) {
    if (name.len == 0) return fail_at(m, where, "must not be empty");
    if (name.len > ANSWER_TOOL_NAME_BYTES_MAX)
        return fail_at(m, where, "%zu bytes are too many; at most %d", name.len, ANSWER_TOOL_NAME_BYTES_MAX);
    for (size_t i = 0; i < name.len; i++)
        if (!is_name_char(name.ptr[i]))
            return fail_value(m, where, name, "must be made of letters, digits, _, - and .");
    return true;
}

// As far as templates and the reading of calls rely on it: what is no schema at all is refused.
bool check_schema(Maker *m, const Place *where, const JsonNode *schema) {
    if (!schema) return true;
    if (schema->type != JSON_OBJECT) return fail_type(m, where, "a JSON schema (an object)", schema);
    const JsonNode *type = json_get(schema, STR("type")), *properties = json_get(schema, STR("properties"));
    const JsonNode *required = json_get(schema, STR("required"));
    Place type_at = place_member(where, "type"), properties_at = place_member(where, "properties");
    Place required_at = place_member(where, "required");
    if (type && type->type != JSON_STRING && type->type != JSON_ARRAY)
        return fail_type(m, &type_at, "a string or an array of strings", type);
    if (required && required->type != JSON_ARRAY && required->type != JSON_NULL)
        return fail_type(m, &required_at, "an array of names", required);
    if (!properties || properties->type == JSON_NULL) return true;
    if (properties->type != JSON_OBJECT) return fail_type(m, &properties_at, "an object", properties);
    for (const JsonNode *k = json_first(properties), *v; k != json_end(properties); k = json_next(v)) {
        v = json_next(k);
        if (v->type != JSON_OBJECT && v->type != JSON_BOOL)
            return fail_value(m, &properties_at, node_str(k), "must be a JSON schema (an object)");
    }
    return true;
}

void put_tool(Maker *m, Str name, Str description, const JsonNode *schema, const JsonNode *strict) {
    json_build_open(&m->b, JSON_OBJECT);
    put_member(m, "type", STR("function"));
    json_build_key(&m->b, STR("function"));
    json_build_open(&m->b, JSON_OBJECT);
    put_member(m, "name", name);
    if (description.ptr) put_member(m, "description", description);
    if (schema) json_build_key(&m->b, STR("parameters")), json_build_node(&m->b, schema);
    if (strict) json_build_key(&m->b, STR("strict")), json_build_node(&m->b, strict);
    json_build_close(&m->b);
    json_build_close(&m->b);
}

static bool hides_tools(const Maker *m) {
    const JsonNode *choice = member(m->in->root, "tool_choice");
    Str name;
    if (json_is(choice, JSON_OBJECT)) choice = member(choice, "type");
    return json_read_str(choice, &name) && str_eq(name, STR("none"));
}

// Hidden ones are checked all the same.
bool put_tools(Maker *m, PutTool *put) {
    const JsonNode *tools;
    Place at = place_member(NULL, "tools");
    uint32_t index = 0;
    if (!read_optional_array(m, "tools", &tools)) return false;
    json_build_key(&m->b, STR("tools"));
    uint32_t before = m->b.count;
    json_build_open(&m->b, JSON_ARRAY);
    for (const JsonNode *t = tools ? json_first(tools) : NULL; t && t != json_end(tools); t = json_next(t)) {
        Place tool_at = place_element(&at, index++);
        if (!put(m, &tool_at, t)) return false;
    }
    json_build_close(&m->b);
    if (index > 0 && !hides_tools(m)) return true;
    json_build_take_back(&m->b, before);
    json_build_null(&m->b);
    return true;
}

// ---- the whole ----

Maker conversation_begin(const ConversationInput *in, Arena *arena, Error *err) {
    Maker m = {.in = in, .b = json_builder_begin(arena), .err = err};
    json_build_open(&m.b, JSON_OBJECT);
    return m;
}

// Members that a template is given by name, after all others: of members of one name the last one counts.
static bool put_kwargs(Maker *m) {
    static const char *const reserved[] = {"messages", "tools", "documents", NULL};
    const JsonNode *kwargs = member(m->in->root, "chat_template_kwargs");
    Place where = place_member(NULL, "chat_template_kwargs");
    if (!kwargs) return true;
    if (kwargs->type != JSON_OBJECT) return fail_type(m, &where, "an object", kwargs);
    for (const JsonNode *k = json_first(kwargs), *v; k != json_end(kwargs); k = json_next(v)) {
        v = json_next(k);
        if (is_one_of(node_str(k), reserved))
            return fail_value(m, &where, node_str(k), "is a field of the request itself");
        json_build_key(&m->b, node_str(k));
        json_build_node(&m->b, v);
    }
    return true;
}

static bool put_generation_prompt(Maker *m) {
    bool add = !m->continues_final_message, given = true;
    Place where = place_member(NULL, "add_generation_prompt");
    const JsonNode *asked = member(m->in->root, "add_generation_prompt");
    if (!read_optional_bool(m, m->in->root, "add_generation_prompt", &given)) return false;
    if (asked && given && m->continues_final_message)
        return fail_at(m, &where,
                       "must not be true where the final message is continued: the prompt ends in one or the "
                       "other");
    json_build_key(&m->b, STR("add_generation_prompt"));
    json_build_bool(&m->b, add && given);
    json_build_key(&m->b, STR("continue_final_message"));
    json_build_bool(&m->b, m->continues_final_message);
    return true;
}

static bool put_documents(Maker *m) {
    const JsonNode *documents;
    if (!read_optional_array(m, "documents", &documents)) return false;
    json_build_key(&m->b, STR("documents"));
    if (documents) json_build_node(&m->b, documents);
    else json_build_null(&m->b);
    return true;
}

bool conversation_end(Maker *m, Str effort, int thinks, const JsonNode **variables) {
    if (!put_documents(m) || !put_generation_prompt(m)) return false;
    if (effort.ptr) put_member(m, "reasoning_effort", effort);
    if (str_eq(effort, STR("none"))) thinks = 0;
    if (thinks >= 0) json_build_key(&m->b, STR("enable_thinking")), json_build_bool(&m->b, thinks > 0);
    if (!put_kwargs(m)) return false;
    json_build_close(&m->b);
    *variables = json_builder_end(&m->b, m->err);
    return *variables != NULL;
}
