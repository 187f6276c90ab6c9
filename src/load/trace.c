#include "load/trace.h"

#include "json/json_reader.h"
#include "load/mix.h"

enum { LINE_NODES_MAX = 1 << 16 };

typedef struct {
    Str line;
    uint32_t number;
    Arena arena; // of one line's nodes
    Error *err;
} TraceLine;

static bool line_fail(const TraceLine *l, const char *what) {
    return error_set(l->err, ERR_USAGE, "line %u: %s", l->number, what);
}

// The value of a member under either of its names; NULL where it has none.
static const JsonNode *either(const JsonNode *object, const char *name, const char *other) {
    const JsonNode *value = json_get(object, str_from_c(name));
    return value ? value : json_get(object, str_from_c(other));
}

static bool read_tokens(const TraceLine *l, const JsonNode *value, const char *what, uint32_t *out) {
    uint64_t tokens;
    *out = 0;
    if (!value) return true;
    if (!json_read_u64(value, &tokens) || tokens > MIX_TOKENS_MAX)
        return error_set(l->err, ERR_USAGE, "line %u: %s must be a whole number up to %d", l->number, what,
                         MIX_TOKENS_MAX);
    *out = (uint32_t)max_u64(tokens, 1);
    return true;
}

static bool read_time(const TraceLine *l, const JsonNode *object, bool *has_time, uint64_t *at_ns) {
    double value;
    const JsonNode *seconds = json_get(object, STR("time")), *ms = json_get(object, STR("timestamp"));
    *has_time = seconds || ms;
    if (!*has_time) return true;
    if (!json_read_f64(seconds ? seconds : ms, &value) || value < 0 || value > 1e9)
        return line_fail(l, "its time must be a number, 0 or more");
    *at_ns = (uint64_t)(value * (seconds ? 1e9 : 1e6));
    return true;
}

// A string's characters as they stand in the line, between its quotes.
static Str raw_string(Str line, const JsonNode *node) {
    const char *start = line.ptr + node->position + 1, *end = start;
    while (*end != '"')
        end += *end == '\\' ? 2 : 1;
    return (Str){start, (size_t)(end - start)};
}

// Whether a line says something, or nothing at all ("{}"). One of other fields alone is a mistake.
static bool is_understood(const JsonNode *object) {
    static const char *const names[] = {"time",         "timestamp",     "prompt",       "prompt_tokens",
                                        "input_length", "output_tokens", "output_length"};
    bool found = object->length == 0;
    for (size_t i = 0; i < COUNT_OF(names); i++)
        found = found || json_get(object, str_from_c(names[i]));
    return found;
}

static bool read_line(const TraceLine *l, TraceRequest *out, bool *has_time) {
    Arena arena = l->arena;
    *out = (TraceRequest){0};
    const JsonLimits limits = {.nodes_max = LINE_NODES_MAX, .error_code = ERR_USAGE};
    const JsonNode *root = json_parse(l->line, &arena, &limits, l->err);
    if (!root) return error_prefix(l->err, "line %u", l->number);
    if (!json_is(root, JSON_OBJECT)) return line_fail(l, "must be an object");
    if (!is_understood(root))
        return line_fail(
            l, "has no known field; there are time, timestamp, prompt, prompt_tokens, input_length, "
               "output_tokens and output_length");
    const JsonNode *prompt = json_get(root, STR("prompt"));
    if (prompt && !json_is(prompt, JSON_STRING)) return line_fail(l, "prompt must be a text");
    if (prompt && prompt->length == 0) return line_fail(l, "prompt must not be empty");
    if (prompt) out->prompt = raw_string(l->line, prompt);
    return read_time(l, root, has_time, &out->at_ns) &&
           read_tokens(l, either(root, "prompt_tokens", "input_length"), "prompt_tokens",
                       &out->prompt_tokens) &&
           read_tokens(l, either(root, "output_tokens", "output_length"), "output_tokens",
                       &out->output_tokens);
}

static bool is_blank_line(Str line) {
    for (size_t i = 0; i < line.len; i++)
        if (line.ptr[i] != ' ' && line.ptr[i] != '\t' && line.ptr[i] != '\r') return false;
    return true;
}

static Str take_line(Str *text) {
    const char *end = memchr(text->ptr, '\n', text->len);
    size_t length = end ? (size_t)(end - text->ptr) : text->len;
    Str line = str_slice(*text, 0, length);
    *text = str_slice(*text, end ? length + 1 : length, text->len);
    return line;
}

// Times count from the first request's.
static void finish(Trace *trace, TraceRequest *requests) {
    uint64_t first_ns = trace->count ? requests[0].at_ns : 0;
    for (uint32_t i = 0; i < trace->count; i++) {
        requests[i].at_ns -= first_ns;
        trace->n_without_prompt += requests[i].prompt.len == 0 && requests[i].prompt_tokens == 0;
        trace->n_without_output += requests[i].output_tokens == 0;
    }
}

bool trace_parse(Str text, Arena *arena, Trace *out, Error *err) {
    TraceLine l = {.err = err};
    uint32_t n_times = 0, room = 0;
    for (size_t i = 0; i < text.len; i++)
        room += text.ptr[i] == '\n';
    if (room >= TRACE_REQUESTS_MAX)
        return error_set(err, ERR_USAGE, "more than %d lines", TRACE_REQUESTS_MAX);
    TraceRequest *requests = arena_new(arena, TraceRequest, room + 1);
    if (!requests) return error_set(err, ERR_NO_MEMORY, "no memory for a trace of %u lines", room + 1);
    *out = (Trace){.requests = requests};
    l.arena = *arena;
    while (text.len) {
        bool has_time;
        l.line = take_line(&text);
        l.number++;
        if (is_blank_line(l.line)) continue;
        TraceRequest *request = &requests[out->count];
        if (!read_line(&l, request, &has_time)) return false;
        if (has_time && n_times && request->at_ns < request[-1].at_ns)
            return line_fail(&l, "its time is before that of the line above");
        out->count++;
        n_times += has_time;
        if (n_times && n_times < out->count)
            return line_fail(&l, "some lines have a time and others have none");
    }
    out->has_times = n_times > 0;
    finish(out, requests);
    return out->count > 0 || error_set(err, ERR_USAGE, "there is no request in it");
}
