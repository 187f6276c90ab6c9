#include "chat/answer_internal.h"

static bool read_name(const JsonNode *tool, Str *out) {
    return json_read_str(json_get(json_get(tool, STR("function")), STR("name")), out) && out->len > 0;
}

bool answer_tools_read(const JsonNode *tools, Arena *arena, const AnswerTools **out, Error *err) {
    *out = NULL;
    if (!json_is(tools, JSON_ARRAY) || tools->length == 0) return true;
    if (tools->length > ANSWER_TOOLS_MAX)
        return error_set(err, ERR_INVALID_REQUEST, "tools: %u of them, and %d are possible", tools->length,
                         ANSWER_TOOLS_MAX);
    AnswerTools *t = arena_new(arena, AnswerTools, 1);
    Str *names = arena_new(arena, Str, tools->length);
    if (!t || !names) return error_set(err, ERR_NO_MEMORY, "no memory for the tools");
    for (const JsonNode *tool = json_first(tools); tool != json_end(tools); tool = json_next(tool)) {
        Str name;
        if (!read_name(tool, &name)) continue;
        if (name.len > ANSWER_TOOL_NAME_BYTES_MAX)
            return error_set(err, ERR_INVALID_REQUEST, "tools: a name has %zu bytes, and %d are possible",
                             name.len, ANSWER_TOOL_NAME_BYTES_MAX);
        names[t->n_tools] = arena_copy_str(arena, name);
        if (!names[t->n_tools++].ptr) return error_set(err, ERR_NO_MEMORY, "no memory for the tools");
    }
    t->names = names;
    if (t->n_tools) *out = t;
    return true;
}

uint32_t answer_tools_find(const AnswerTools *tools, Str name) {
    for (uint32_t i = 0; tools && i < tools->n_tools; i++)
        if (str_eq(tools->names[i], name)) return i;
    return UINT32_MAX;
}
