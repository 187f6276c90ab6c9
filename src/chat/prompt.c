#include "chat/prompt.h"

#include "base/utf8.h"
#include "json/json_builder.h"
#include "text/unicode.h"

#include <stdio.h>

// ---- the model ----

static bool contains(Str text, Str part) {
    return text.len && memmem(text.ptr, text.len, part.ptr, part.len) != NULL;
}

// A template that cannot be used: completions and /execute work without one.
static bool set_missing(ChatModel *m, const char *what, const Error *reason) {
    m->plain = m->with_tools = NULL;
    m->source = (Str){0};
    (void)error_set(&m->missing, ERR_INVALID_REQUEST, "%s%.400s; --chat-template names a file with one", what,
                    reason->message);
    return true;
}

static bool compile(ChatModel *m, Str source, Arena *arena, const Template **out, bool *ok, Error *err) {
    Error reason;
    *ok = template_compile(source, arena, out, &reason);
    if (*ok) return true;
    if (reason.code != ERR_NO_MEMORY) return set_missing(m, "the chat template cannot be used: ", &reason);
    *err = reason;
    return false;
}

// *with_tools is the text of m->with_tools.
static bool open_templates(ChatModel *m, const GgufFile *file, Str override_source, Arena *arena,
                           Str *with_tools, Error *err) {
    bool ok;
    Error reason;
    m->source = *with_tools = override_source;
    if (!override_source.ptr && !file) {
        (void)error_set(&reason, ERR_UNSUPPORTED, "there is no model file with a chat template");
        return set_missing(m, "", &reason);
    }
    if (!override_source.ptr && (!chat_template_find(file, false, &m->source, &reason) ||
                                 !chat_template_find(file, true, with_tools, &reason)))
        return set_missing(m, "", &reason);
    if (!compile(m, m->source, arena, &m->plain, &ok, err)) return false;
    m->with_tools = m->plain;
    if (!ok || str_eq(*with_tools, m->source)) return true;
    return compile(m, *with_tools, arena, &m->with_tools, &ok, err);
}

enum { PROBE_BYTES = 4 << 20 };

// Whether a text shows in the prompt of a conversation.
static bool shows(const ChatModel *m, ConversationInput in, const char *body, Str part, Arena scratch) {
    const JsonNode *variables;
    TemplateText text;
    Error ignored;
    in.root = json_parse(str_from_c(body), &scratch, &(JsonLimits){0}, &ignored);
    return in.root && conversation_from_chat(&in, &scratch, &variables, &ignored) &&
           chat_render(m, variables, 0, &scratch, &text, &ignored) && contains(text.text, part);
}

// What the template makes of contents is tried out, in memory that the model's other tables will need.
static void probe(ChatModel *m, Arena arena) {
    Arena scratch;
    if (!arena_split(&arena, min_u64(PROBE_BYTES, arena_left(&arena)), &scratch)) return;
    static const char said[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"marmalade\"}]}";
    static const char called[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":null,"
        "\"tool_calls\":[{\"id\":\"123456789\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},"
        "{\"role\":\"tool\",\"tool_call_id\":\"123456789\",\"content\":\"b\"}]}";
    ConversationInput text = {0}, parts = {.content_parts = true}, empty = {.no_null_content = true};
    // Templates of models that see pictures may read parts alone, and would show nothing of a string.
    m->content_parts =
        !shows(m, text, said, STR("marmalade"), scratch) && shows(m, parts, said, STR("marmalade"), scratch);
    // Others print Python's word for null where the message has calls instead of a content, or fail on it.
    bool prints_null = shows(m, text, called, STR("None"), scratch);
    bool takes_null = shows(m, text, called, STR(""), scratch);
    m->no_null_content = (prints_null || !takes_null) && shows(m, empty, called, STR(""), scratch) &&
                         !shows(m, empty, called, STR("None"), scratch);
}

bool chat_model_open(const GgufFile *file, const Tokenizer *t, Str override_source, const char *tool_format,
                     const char *reasoning_format, Arena *arena, ChatModel *out, Error *err) {
    Str with_tools;
    *out = (ChatModel){.tokenizer = t};
    out->n_constants = chat_template_constants(t, file, out->constants);
    if (!open_templates(out, file, override_source, arena, &with_tools, err) ||
        !answer_formats_find(out->source, with_tools, t, tool_format, reasoning_format, &out->formats, err))
        return false;
    out->reads_tools = contains(with_tools, STR("tools"));
    if (contains(out->source, STR("developer"))) out->developer_role = "developer";
    if (out->plain) probe(out, *arena);
    return true;
}

ConversationInput chat_model_input(const ChatModel *m, const JsonNode *root) {
    return (ConversationInput){.root = root,
                               .developer_role = m->developer_role,
                               .content_parts = m->content_parts,
                               .no_null_content = m->no_null_content};
}

// ---- rendering ----

static Str without_outer_blanks(Str s) {
    uint32_t codepoint;
    size_t length;
    while ((length = utf8_decode(s, &codepoint)) != 0 && unicode_is_space(codepoint))
        s = str_slice(s, length, s.len);
    while (s.len) {
        size_t at = s.len - 1;
        while (at > 0 && ((uint8_t)s.ptr[at] & 0xC0) == 0x80)
            at--;
        if (!utf8_decode(str_slice(s, at, s.len), &codepoint) || !unicode_is_space(codepoint)) break;
        s.len = at;
    }
    return s;
}

// The last message's text, of a list of parts the last one's.
static Str final_content(const JsonNode *variables) {
    const JsonNode *messages = json_get(variables, STR("messages")), *last = NULL;
    Str text = {0};
    if (!json_is(messages, JSON_ARRAY)) return text;
    for (const JsonNode *e = json_first(messages); e != json_end(messages); e = json_next(e))
        last = e;
    const JsonNode *content = json_get(last, STR("content"));
    if (json_read_str(content, &text) || !json_is(content, JSON_ARRAY)) return text;
    for (const JsonNode *p = json_first(content); p != json_end(content); p = json_next(p))
        if (!json_read_str(json_get(p, STR("text")), &text)) text = (Str){0};
    return text;
}

// The end of the last place of `part` in text (Knuth, Morris and Pratt's search, from the back), 0 for none.
// `fallback` has part.len slots.
static size_t find_last(Str text, Str part, uint32_t *fallback) {
    size_t n = part.len, k = 0;
    fallback[0] = 0;
    for (size_t i = 1; i < n; i++) {
        while (k && part.ptr[n - 1 - i] != part.ptr[n - 1 - k])
            k = fallback[k - 1];
        if (part.ptr[n - 1 - i] == part.ptr[n - 1 - k]) k++;
        fallback[i] = (uint32_t)k;
    }
    k = 0;
    for (size_t i = text.len; i-- > 0;) {
        while (k && text.ptr[i] != part.ptr[n - 1 - k])
            k = fallback[k - 1];
        if (text.ptr[i] == part.ptr[n - 1 - k]) k++;
        if (k == n) return i + n;
    }
    return 0;
}

static bool cut_text(TemplateText *text, size_t length, Arena *arena, Error *err) {
    TextSpan *spans = arena_new(arena, TextSpan, text->n_spans);
    uint32_t n = 0;
    if (!spans) return error_set(err, ERR_NO_MEMORY, "no memory for a prompt's spans");
    for (uint64_t at = 0; n < text->n_spans && at < length; at += text->spans[n++].length)
        spans[n] = (TextSpan){min_u64(text->spans[n].length, length - at), text->spans[n].from_request};
    *text = (TemplateText){.text = str_slice(text->text, 0, length), .spans = spans, .n_spans = n};
    return true;
}

// Cuts the prompt behind the last message's content, as transformers does: blanks around it may have been
// trimmed by the template; those behind it stay where the template has kept them. Only text of the request
// counts, so that a short content is not found in the template's own words.
static bool cut_behind_final(const JsonNode *variables, Arena *arena, TemplateText *text, Error *err) {
    Str content = final_content(variables), core = without_outer_blanks(content);
    Arena scratch = *arena;
    uint32_t *fallback = core.len ? arena_new(&scratch, uint32_t, core.len) : NULL;
    if (core.len == 0)
        return error_set(err, ERR_INVALID_REQUEST, "continue_final_message: the last message has no text");
    if (!fallback) return error_set(err, ERR_NO_MEMORY, "no memory to continue a message");
    uint64_t end = text->text.len;
    size_t found = 0;
    for (uint32_t i = text->n_spans; i-- > 0 && !found;) {
        uint64_t begin = end - text->spans[i].length;
        if (text->spans[i].from_request) found = find_last(str_slice(text->text, begin, end), core, fallback);
        if (found) found += begin;
        end = begin;
    }
    if (!found)
        return error_set(err, ERR_INVALID_REQUEST,
                         "continue_final_message: the chat template changes or leaves out the last message's "
                         "text, so the prompt cannot end in it");
    Str tail = str_slice(content, (size_t)(core.ptr - content.ptr) + core.len, content.len);
    if (str_starts_with(str_slice(text->text, found, text->text.len), tail)) found += tail.len;
    return cut_text(text, found, arena, err);
}

bool chat_render(const ChatModel *m, const JsonNode *variables, uint64_t unix_ms, Arena *arena,
                 TemplateText *out, Error *err) {
    const Template *template = chat_template_has_tools(variables) ? m->with_tools : m->plain;
    TemplateInput input = {
        .variables = variables, .constants = m->constants, .n_constants = m->n_constants, .unix_ms = unix_ms};
    bool continues = false;
    if (!template) {
        *err = m->missing;
        return false;
    }
    if (!template_render(template, &input, arena, out, err)) {
        if (err->code == ERR_INVALID_REQUEST) (void)error_prefix(err, "chat template");
        return false;
    }
    if (!json_read_bool(json_get(variables, STR("continue_final_message")), &continues) || !continues)
        return true;
    return cut_behind_final(variables, arena, out, err);
}

bool chat_encode_text(const ChatModel *m, const TemplateText *text, Arena *ids_arena, Arena scratch,
                      TokenIds *out, Error *err) {
    return tokenizer_encode_spans(m->tokenizer, text->text, text->spans, text->n_spans, ids_arena, scratch,
                                  out, err);
}
