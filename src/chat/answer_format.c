// Which formats a model uses, and where its prompts leave it. answer_formats.c has the tables.
#include "chat/answer_internal.h"

#include <stdlib.h>

static bool has(Str text, const char *part) {
    return text.len && memmem(text.ptr, text.len, part, strlen(part)) != NULL;
}

static bool fits(Str source, const char *const needs[NEEDS_MAX][NEED_TEXTS_MAX]) {
    for (uint32_t i = 0; i < NEEDS_MAX && needs[i][0]; i++) {
        bool all = true;
        for (uint32_t k = 0; k < NEED_TEXTS_MAX && needs[i][k]; k++)
            all = all && has(source, needs[i][k]);
        if (all) return true;
    }
    return false;
}

// ---- names ----

static bool is_name(const char *given, const char *name) {
    return given && strcmp(given, name) == 0;
}

static bool report_unknown(const char *flag, const char *given, const StrBuf *names, Error *err) {
    (void)error_set(err, ERR_USAGE, "--%s %.40s is not known; there are auto, none%s", flag, given,
                    names->ptr);
    StrBuf field = STRBUF(err->field);
    strbuf_put(&field, str_from_c(flag));
    return false;
}

static bool find_tools(Str source, const char *name, const ToolFormat **out, Error *err) {
    bool automatic = !name || is_name(name, "auto");
    char text[400];
    StrBuf names = STRBUF(text);
    const ToolFormat *f;
    *out = NULL;
    for (uint32_t i = 0; (f = answer_tool_format(i)); i++) {
        strbuf_printf(&names, ", %s", f->name);
        if (!*out && (automatic ? fits(source, f->needs) : is_name(name, f->name))) *out = f;
    }
    return *out || automatic || is_name(name, "none") || report_unknown("tool-format", name, &names, err);
}

static bool find_reasoning(Str source, const char *name, const ReasoningFormat **out, Error *err) {
    bool automatic = !name || is_name(name, "auto");
    char text[400];
    StrBuf names = STRBUF(text);
    const ReasoningFormat *f;
    *out = NULL;
    for (uint32_t i = 0; (f = answer_reasoning_format(i)); i++) {
        strbuf_printf(&names, ", %s", f->name);
        if (!*out && (automatic ? fits(source, f->needs) : is_name(name, f->name))) *out = f;
    }
    return *out || automatic || is_name(name, "none") ||
           report_unknown("reasoning-format", name, &names, err);
}

bool answer_formats_check(const char *tool_format, const char *reasoning_format, Error *err) {
    const ToolFormat *tools;
    const ReasoningFormat *reasoning;
    return find_tools((Str){0}, tool_format, &tools, err) &&
           find_reasoning((Str){0}, reasoning_format, &reasoning, err);
}

const char *answer_tool_format_at(uint32_t index) {
    const ToolFormat *f = answer_tool_format(index);
    return f ? f->name : NULL;
}

const char *answer_reasoning_format_at(uint32_t index) {
    const ReasoningFormat *f = answer_reasoning_format(index);
    return f ? f->name : NULL;
}

void answer_put_tool_formats(StrBuf *out) {
    const ToolFormat *f;
    for (uint32_t i = 0; (f = answer_tool_format(i)); i++)
        strbuf_printf(out, "%s%s", i ? ", " : "", f->name);
}

// ---- marks ----

static int compare_ids(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static void add_marks(AnswerFormats *f, const Tokenizer *t, const char *const *marks, uint32_t n_max) {
    for (uint32_t i = 0; t && i < n_max && marks[i] && f->n_marks < ANSWER_MARKS_MAX; i++) {
        int32_t id = tokenizer_token_by_text(t, str_from_c(marks[i]));
        if (id != TOKEN_NONE && !answer_is_mark(f, id)) f->marks[f->n_marks++] = id;
    }
}

bool answer_formats_find(Str template_source, Str with_tools, const Tokenizer *t, const char *tool_format,
                         const char *reasoning_format, AnswerFormats *out, Error *err) {
    *out = (AnswerFormats){0};
    if (!find_tools(with_tools, tool_format, &out->tools, err) ||
        !find_reasoning(template_source, reasoning_format, &out->reasoning, err))
        return false;
    if (out->tools) add_marks(out, t, out->tools->marks, FORMAT_MARKS_MAX);
    if (out->reasoning) add_marks(out, t, out->reasoning->marks, REASONING_MARKS_MAX);
    if (answer_is_harmony(out)) add_marks(out, t, answer_harmony_format()->marks, FORMAT_MARKS_MAX);
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

// ---- prompts ----

static Str behind_last(Str text, const char *mark) {
    size_t length = strlen(mark);
    for (size_t at = text.len; at-- > 0;)
        if (str_starts_with(str_slice(text, at, text.len), (Str){mark, length}))
            return str_slice(text, at + length, text.len);
    return (Str){0};
}

static AnswerOpening harmony_opening(Str prompt) {
    Str turn = behind_last(prompt, "<|start|>");
    if (!turn.ptr) return ANSWER_OPENS_CONTENT;
    if (!has(turn, "<|message|>")) return ANSWER_OPENS_HEADER;
    return has(turn, "<|channel|>analysis<|message|>") ? ANSWER_OPENS_REASONING : ANSWER_OPENS_CONTENT;
}

AnswerOpening answer_opening(const AnswerFormats *f, Str prompt) {
    if (answer_is_harmony(f)) return harmony_opening(prompt);
    while (prompt.len && answer_is_space(prompt.ptr[prompt.len - 1]))
        prompt.len--;
    const ReasoningFormat *r = f->reasoning;
    const char *opens = r ? (r->prompt_end ? r->prompt_end : r->open) : NULL;
    if (opens && str_ends_with(prompt, str_from_c(opens))) return ANSWER_OPENS_REASONING;
    // A template that ends with a call's opening has the model begin with a name.
    bool header = f->tools && f->tools->content_name && str_ends_with(prompt, str_from_c(f->tools->open));
    return header ? ANSWER_OPENS_HEADER : ANSWER_OPENS_CONTENT;
}
