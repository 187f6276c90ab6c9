#include "chat/answer_internal.h"
#include "base/strbuf.h"

#include <stdlib.h>

static const ToolFormat tool_formats[] = {
    {
        .name = "hermes",
        .shape = CALLS_JSON,
        .needs = {"<tool_call>", "</tool_call>"},
        .marks = {"<tool_call>", "</tool_call>"},
        .open = "<tool_call>",
        .close = "</tool_call>",
        .name_key = "name",
        .arguments_key = "arguments",
    },
};

static const ReasoningFormat reasoning_formats[] = {
    {
        .name = "think",
        .needs = {"</think>"},
        .marks = {"<think>", "</think>"},
        .open = "<think>",
        .close = "</think>",
    },
};

// ---- which one ----

static bool has(Str text, const char *part) {
    return text.len && memmem(text.ptr, text.len, part, strlen(part)) != NULL;
}

static bool has_all(Str text, const char *const needs[FORMAT_NEEDS_MAX]) {
    for (uint32_t i = 0; i < FORMAT_NEEDS_MAX && needs[i]; i++)
        if (!has(text, needs[i])) return false;
    return text.len > 0;
}

static bool report_unknown(const char *flag, const char *given, const char *(*name_of)(uint32_t i),
                           Error *err) {
    char text[400];
    StrBuf names = STRBUF(text);
    for (uint32_t i = 0; name_of(i); i++)
        strbuf_printf(&names, ", %s", name_of(i));
    (void)error_set(err, ERR_USAGE, "--%s %.60s is not known; there are auto, none%s", flag, given, text);
    StrBuf field = STRBUF(err->field);
    strbuf_put(&field, str_from_c(flag));
    return false;
}

static const char *tool_name(uint32_t i) {
    return i < COUNT_OF(tool_formats) ? tool_formats[i].name : NULL;
}

static const char *reasoning_name_of(uint32_t i) {
    return i < COUNT_OF(reasoning_formats) ? reasoning_formats[i].name : NULL;
}

static bool find_tools(Str source, const char *name, const ToolFormat **out, Error *err) {
    bool automatic = !name || strcmp(name, "auto") == 0;
    *out = NULL;
    if (name && strcmp(name, "none") == 0) return true;
    for (size_t i = 0; i < COUNT_OF(tool_formats); i++) {
        const ToolFormat *f = &tool_formats[i];
        if (automatic ? !has_all(source, f->needs) : strcmp(name, f->name) != 0) continue;
        *out = f;
        return true;
    }
    return automatic || report_unknown("tool-format", name, tool_name, err);
}

static bool find_reasoning(Str source, const char *name, const ReasoningFormat **out, Error *err) {
    bool automatic = !name || strcmp(name, "auto") == 0;
    *out = NULL;
    if (name && strcmp(name, "none") == 0) return true;
    for (size_t i = 0; i < COUNT_OF(reasoning_formats); i++) {
        const ReasoningFormat *f = &reasoning_formats[i];
        if (automatic ? !has_all(source, f->needs) : strcmp(name, f->name) != 0) continue;
        *out = f;
        return true;
    }
    return automatic || report_unknown("reasoning-format", name, reasoning_name_of, err);
}

static int compare_ids(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static void add_marks(AnswerFormats *f, const Tokenizer *t, const char *const *marks, uint32_t n_max) {
    for (uint32_t i = 0; i < n_max && marks[i] && f->n_marks < ANSWER_MARKS_MAX; i++) {
        int32_t id = tokenizer_token_by_text(t, str_from_c(marks[i]));
        if (id != TOKEN_NONE && !answer_is_mark(f, id)) f->marks[f->n_marks++] = id;
    }
}

bool answer_formats_find(Str template_source, const Tokenizer *t, const char *tool_format,
                         const char *reasoning_format, AnswerFormats *out, Error *err) {
    *out = (AnswerFormats){0};
    if (!find_tools(template_source, tool_format, &out->tools, err) ||
        !find_reasoning(template_source, reasoning_format, &out->reasoning, err))
        return false;
    if (out->tools) add_marks(out, t, out->tools->marks, FORMAT_MARKS_MAX);
    if (out->reasoning) add_marks(out, t, out->reasoning->marks, REASONING_MARKS_MAX);
    qsort(out->marks, out->n_marks, sizeof out->marks[0], compare_ids);
    return true;
}

const char *answer_tool_format_name(const AnswerFormats *f) {
    return f->tools ? f->tools->name : "none";
}

const char *answer_reasoning_format_name(const AnswerFormats *f) {
    return f->reasoning ? f->reasoning->name : "none";
}

bool answer_is_mark(const AnswerFormats *f, int32_t token) {
    for (uint32_t i = 0; i < f->n_marks; i++)
        if (f->marks[i] == token) return true;
    return false;
}

AnswerOpening answer_opening(const AnswerFormats *f, Str prompt) {
    while (prompt.len && answer_is_space(prompt.ptr[prompt.len - 1]))
        prompt.len--;
    if (f->reasoning && str_ends_with(prompt, str_from_c(f->reasoning->open))) return ANSWER_OPENS_REASONING;
    return ANSWER_OPENS_CONTENT;
}
