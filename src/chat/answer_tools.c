#include "chat/answer_internal.h"

static const struct {
    Str name;
    uint8_t types;
} type_names[] = {
    {STR("string"), TYPE_STRING},   {STR("integer"), TYPE_NUMBER}, {STR("number"), TYPE_NUMBER},
    {STR("boolean"), TYPE_BOOLEAN}, {STR("null"), TYPE_NULL},      {STR("object"), TYPE_OBJECT},
    {STR("array"), TYPE_ARRAY},
};

static uint8_t type_of_name(const JsonNode *node) {
    Str name;
    for (size_t i = 0; json_read_str(node, &name) && i < COUNT_OF(type_names); i++)
        if (str_eq(name, type_names[i].name)) return type_names[i].types;
    return 0;
}

static uint8_t type_of_value(const JsonNode *value) {
    switch ((JsonType)value->type) {
    case JSON_NULL: return TYPE_NULL;
    case JSON_BOOL: return TYPE_BOOLEAN;
    case JSON_STRING: return TYPE_STRING;
    case JSON_ARRAY: return TYPE_ARRAY;
    case JSON_OBJECT: return TYPE_OBJECT;
    default: return TYPE_NUMBER;
    }
}

// The types that "type" or "enum" of a schema allow.
static uint8_t types_said(const JsonNode *schema) {
    const JsonNode *type = json_get(schema, STR("type")), *values = json_get(schema, STR("enum"));
    uint8_t types = type_of_name(type);
    if (json_is(type, JSON_ARRAY)) {
        for (const JsonNode *e = json_first(type); e != json_end(type); e = json_next(e))
            types |= type_of_name(e);
    }
    if (!type && json_is(values, JSON_ARRAY)) {
        for (const JsonNode *e = json_first(values); e != json_end(values); e = json_next(e))
            types |= type_of_value(e);
    }
    return types;
}

// 0: it does not say, or not in a way that is looked into.
static uint8_t types_of_schema(const JsonNode *schema) {
    static const Str choices[] = {STR("anyOf"), STR("oneOf")};
    uint8_t types = types_said(schema);
    for (size_t i = 0; i < COUNT_OF(choices) && types == 0; i++) {
        const JsonNode *list = json_get(schema, choices[i]);
        if (!json_is(list, JSON_ARRAY)) continue;
        for (const JsonNode *e = json_first(list); e != json_end(list); e = json_next(e)) {
            uint8_t said = types_said(e);
            if (said == 0) return 0;
            types |= said;
        }
    }
    return types;
}

static bool report_full(Error *err) {
    return error_set(err, ERR_NO_MEMORY, "no memory for the tools");
}

static bool read_parameters(const JsonNode *function, Arena *arena, Tool *out, Error *err) {
    const JsonNode *properties = json_get(json_get(function, STR("parameters")), STR("properties"));
    if (!json_is(properties, JSON_OBJECT)) return true;
    ToolParameter *list = arena_new(arena, ToolParameter, properties->length);
    if (!list) return report_full(err);
    for (const JsonNode *key = json_first(properties), *value; key != json_end(properties);
         key = json_next(value)) {
        value = json_next(key);
        ToolParameter *parameter = &list[out->n_parameters++];
        parameter->name = arena_copy_str(arena, (Str){key->as.string, key->length});
        parameter->types = types_of_schema(value);
        if (!parameter->name.ptr) return report_full(err);
    }
    out->parameters = list;
    return true;
}

static bool report_tools(Error *err, const char *what, size_t found, size_t most) {
    (void)error_set(err, ERR_INVALID_REQUEST, "tools: %s: %zu, and at most %zu are possible", what, found,
                    most);
    memcpy(err->field, "tools", sizeof "tools");
    return false;
}

bool answer_tools_read(const JsonNode *tools, Arena *arena, const AnswerTools **out, Error *err) {
    *out = NULL;
    if (!json_is(tools, JSON_ARRAY) || tools->length == 0) return true;
    if (tools->length > ANSWER_TOOLS_MAX)
        return report_tools(err, "how many there are", tools->length, ANSWER_TOOLS_MAX);
    AnswerTools *t = arena_new(arena, AnswerTools, 1);
    Tool *list = arena_new(arena, Tool, tools->length);
    if (!t || !list) return report_full(err);
    for (const JsonNode *tool = json_first(tools); tool != json_end(tools); tool = json_next(tool)) {
        const JsonNode *function = json_get(tool, STR("function"));
        Str name;
        if (!json_read_str(json_get(function, STR("name")), &name) || name.len == 0) continue;
        if (name.len > ANSWER_TOOL_NAME_BYTES_MAX)
            return report_tools(err, "bytes of a name", name.len, ANSWER_TOOL_NAME_BYTES_MAX);
        Tool *next = &list[t->n_tools++];
        next->name = arena_copy_str(arena, name);
        if (!next->name.ptr) return report_full(err);
        if (!read_parameters(function, arena, next, err)) return false;
    }
    t->tools = list;
    if (t->n_tools) *out = t;
    return true;
}

bool answer_tools_read_name(const JsonNode *choice, Str *out) {
    Str type;
    const JsonNode *function = json_get(choice, STR("function"));
    return json_read_str(json_get(choice, STR("type")), &type) && str_eq(type, STR("function")) &&
           json_read_str(json_get(function ? function : choice, STR("name")), out) && out->len > 0;
}

uint32_t answer_tools_find(const AnswerTools *tools, Str name) {
    for (uint32_t i = 0; i < tools->n_tools; i++)
        if (str_eq(tools->tools[i].name, name)) return i;
    return TOOL_NONE;
}

uint8_t answer_tools_types(const Tool *tool, Str parameter) {
    for (uint32_t i = 0; i < tool->n_parameters; i++)
        if (str_eq(tool->parameters[i].name, parameter)) return tool->parameters[i].types;
    return 0;
}
