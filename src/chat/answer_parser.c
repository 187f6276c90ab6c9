// The window, the parts that go out, and the text around calls.
#include "chat/answer_internal.h"

#include "base/strbuf.h"
#include "base/utf8.h"
#include "json/json_writer.h"

enum { UTF8_BYTES_MAX = 4 };

// ---- the window ----

bool answer_is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static const HeldMark *find_mark(const AnswerParser *p, uint32_t at) {
    for (uint32_t i = 0; i < p->n_marks; i++)
        if (p->marks[i].at == at) return &p->marks[i];
    return NULL;
}

bool answer_mark_at(const AnswerParser *p, uint32_t at) {
    return find_mark(p, at) != NULL;
}

Str answer_plain_text(const AnswerParser *p) {
    uint32_t end = p->length;
    for (uint32_t i = 0; i < p->n_marks; i++)
        if (p->marks[i].at >= p->at && p->marks[i].at < end) end = p->marks[i].at;
    return answer_window(p, p->at, end);
}

void answer_skip_space(AnswerParser *p) {
    while (p->at < p->length && answer_is_space(p->window[p->at]))
        p->at++;
}

bool answer_take_byte(AnswerParser *p, char c) {
    if (p->at == p->length || p->window[p->at] != c || find_mark(p, p->at)) return false;
    p->at++;
    return true;
}

static void remember_call(AnswerParser *p, uint32_t bytes) {
    if (bytes > sizeof p->call_text - p->call_length) p->call_is_long = true;
    if (p->call_is_long) return;
    memcpy(p->call_text + p->call_length, p->window, bytes);
    p->call_length += bytes;
}

void answer_drop(AnswerParser *p, uint32_t bytes) {
    uint32_t kept = 0;
    if (bytes == 0) return;
    if (p->call_is_open) remember_call(p, bytes);
    memmove(p->window, p->window + bytes, p->length - bytes);
    p->length -= bytes;
    p->at = p->at > bytes ? p->at - bytes : 0;
    p->scan = p->scan > bytes ? p->scan - bytes : 0;
    for (uint32_t i = 0; i < p->n_marks; i++) {
        if (p->marks[i].at < bytes) continue;
        p->marks[kept] = p->marks[i];
        p->marks[kept++].at -= bytes;
    }
    p->n_marks = kept;
}

// ---- literals ----

typedef struct {
    const char *const *texts;
    const int32_t *ids;
    uint32_t n_max;
} Marks;

// The mark that the literal begins with, if it is a token.
static int32_t mark_of_literal(const Marks *m, const char *literal, size_t *length) {
    int32_t id = TOKEN_NONE;
    *length = 0;
    for (uint32_t i = 0; i < m->n_max && m->texts[i]; i++) {
        size_t n = strlen(m->texts[i]);
        if (m->ids[i] == TOKEN_NONE || n <= *length || strncmp(literal, m->texts[i], n) != 0) continue;
        id = m->ids[i];
        *length = n;
    }
    return id;
}

static Match match(const AnswerParser *p, uint32_t at, const char *literal, uint32_t *end,
                   const Marks *marks) {
    while (*literal && *literal != '*') {
        size_t length;
        if (*literal == ' ') {
            while (at < p->length && answer_is_space(p->window[at]))
                at++;
            literal++;
            continue;
        }
        if (at == p->length) return p->ended ? MATCH_NO : MATCH_PART;
        int32_t id = mark_of_literal(marks, literal, &length);
        const HeldMark *held = find_mark(p, at);
        if (id == TOKEN_NONE ? held || p->window[at] != *literal : !held || held->id != id) return MATCH_NO;
        at += held ? held->length : 1;
        literal += held ? length : 1;
    }
    *end = at;
    if (*literal == 0) return MATCH_YES;
    for (uint32_t skipped = 0; skipped <= WILDCARD_BYTES_MAX; skipped++) {
        Match m = match(p, at + skipped, literal + 1, end, marks);
        if (m != MATCH_NO || at + skipped >= p->length) return m;
    }
    return MATCH_NO;
}

Match answer_match(const AnswerParser *p, uint32_t at, const char *literal, uint32_t *end) {
    Marks marks = {p->format->marks, p->format_ids, FORMAT_MARKS_MAX};
    return match(p, at, literal ? literal : "", end, &marks);
}

Match answer_match_reasoning(const AnswerParser *p, uint32_t at, const char *literal, uint32_t *end) {
    Marks marks = {p->reasoning->marks, p->reasoning_ids, REASONING_MARKS_MAX};
    return match(p, at, literal, end, &marks);
}

Match answer_take(AnswerParser *p, const char *literal) {
    uint32_t end;
    Match m = answer_match(p, p->at, literal, &end);
    if (m == MATCH_YES) p->at = end;
    return m;
}

// ---- parts ----

static void send(AnswerParser *p, AnswerPartKind kind, Str text) {
    AnswerPart part = {.kind = kind, .call = p->n_begun ? p->n_begun - 1 : 0, .text = text};
    p->sink.part(p->sink.context, &part);
}

static void flush(AnswerParser *p) {
    if (p->out_length) send(p, p->out_kind, (Str){p->out, p->out_length});
    p->out_length = 0;
}

// A character whose other bytes come next stays.
static void flush_whole(AnswerParser *p) {
    uint32_t tail = (uint32_t)utf8_incomplete_tail((Str){p->out, p->out_length});
    p->out_length -= tail;
    send(p, p->out_kind, (Str){p->out, p->out_length});
    memmove(p->out, p->out + p->out_length, tail);
    p->out_length = tail;
}

void answer_emit(AnswerParser *p, AnswerPartKind kind, Str text) {
    if (p->out_kind != kind) flush(p);
    p->out_kind = kind;
    while (text.len) {
        size_t taken = (size_t)min_u64(text.len, sizeof p->out - p->out_length);
        memcpy(p->out + p->out_length, text.ptr, taken);
        p->out_length += (uint32_t)taken;
        text = str_slice(text, taken, text.len);
        if (p->out_length == sizeof p->out) flush_whole(p);
    }
}

void answer_emit_escaped(AnswerParser *p, Str text) {
    size_t from = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        char memory[8];
        StrBuf escape = STRBUF(memory);
        json_escape_byte(&escape, c);
        answer_emit(p, ANSWER_CALL_ARGUMENTS, str_slice(text, from, i));
        answer_emit(p, ANSWER_CALL_ARGUMENTS, strbuf_str(&escape));
        from = i + 1;
    }
    answer_emit(p, ANSWER_CALL_ARGUMENTS, str_slice(text, from, text.len));
}

void answer_begin_call(AnswerParser *p) {
    flush(p);
    p->n_begun++;
    send(p, ANSWER_CALL, p->tools->tools[p->tool].name);
    p->call_is_open = true;
    p->call_is_long = false;
    p->call_length = 0;
}

static void close_call(AnswerParser *p, bool broken) {
    bool has_text = broken && !p->call_is_long;
    AnswerPart part = {.kind = ANSWER_CALL_END, .call = p->n_begun - 1, .broken = broken};
    if (has_text) part.text = (Str){p->call_text, p->call_length};
    flush(p);
    p->sink.part(p->sink.context, &part);
    p->call_is_open = false;
}

void answer_end_call(AnswerParser *p) {
    close_call(p, false);
    p->n_whole++;
    answer_drop(p, p->at);
}

void answer_pass_on(AnswerParser *p, uint32_t end) {
    if (end == 0) return;
    answer_emit(p, p->text_kind, answer_window(p, 0, end));
    p->at_start = p->after_call = p->drops_space = false;
    answer_drop(p, end);
}

// ---- text ----

uint32_t answer_before_space(const AnswerParser *p, uint32_t end) {
    uint32_t at = end;
    bool may_be_dropped = p->format || p->reasoning;
    if (!may_be_dropped || p->ended) return end;
    while (at > 0 && answer_is_space(p->window[at - 1]))
        at--;
    return at;
}

void answer_drop_space(AnswerParser *p) {
    uint32_t n = 0;
    while (p->drops_space && n < p->length && answer_is_space(p->window[n]))
        n++;
    answer_drop(p, n);
}

static Step step_reasoning(AnswerParser *p) {
    answer_drop_space(p);
    for (uint32_t at = p->scan; at < p->length; at++) {
        uint32_t end;
        Match m = answer_match_reasoning(p, at, p->reasoning->close, &end);
        if (m == MATCH_NO) continue;
        uint32_t text = answer_before_space(p, at);
        answer_pass_on(p, text);
        p->scan = at - text;
        if (m == MATCH_PART) return STEP_MORE;
        answer_drop(p, end - text);
        p->text_kind = ANSWER_CONTENT;
        p->drops_space = p->at_start = true;
        p->scan = 0;
        return answer_go(p, answer_step_content);
    }
    answer_pass_on(p, answer_before_space(p, p->length));
    p->scan = p->length;
    return STEP_MORE;
}

// A bare call: one of the format's bytes, behind the separator where there was a call before.
static Match match_bare(const AnswerParser *p, uint32_t at, uint32_t *end) {
    bool separated = p->after_call && p->format->separator && at < p->length &&
                     p->window[at] == p->format->separator && !find_mark(p, at);
    at += separated;
    while (separated && at < p->length && answer_is_space(p->window[at]))
        at++;
    if (at == p->length) return p->ended ? MATCH_NO : MATCH_PART;
    *end = at;
    return !find_mark(p, at) && strchr(p->format->bare, p->window[at]) && p->window[at] ? MATCH_YES
                                                                                        : MATCH_NO;
}

typedef struct {
    StepFunction *step;
    uint32_t end;
    bool is_bare;
} Opening;

static void keep_better(Match found, Opening opening, Match *best, Opening *kept) {
    if (found <= *best) return;
    *best = found;
    *kept = opening;
}

static void try_literal(const AnswerParser *p, uint32_t at, const char *literal, StepFunction *step,
                        Match *best, Opening *kept) {
    Opening opening = {.step = step};
    if (!literal) return;
    bool reasons = step == step_reasoning;
    Match m = reasons ? answer_match_reasoning(p, at, literal, &opening.end)
                      : answer_match(p, at, literal, &opening.end);
    keep_better(m, opening, best, kept);
}

// What begins at `at`, other than content.
static Match match_opening(const AnswerParser *p, uint32_t at, Opening *opening) {
    Match best = MATCH_NO;
    const ToolFormat *f = p->format;
    if (p->reasoning && p->at_start) try_literal(p, at, p->reasoning->open, step_reasoning, &best, opening);
    if (!f) return best;
    try_literal(p, at, f->section_open, answer_step_section, &best, opening);
    try_literal(p, at, f->open, answer_step_call, &best, opening);
    try_literal(p, at, f->open_too, answer_step_call, &best, opening);
    if (f->bare && p->at_start) {
        Opening bare = {.step = answer_step_call, .is_bare = true};
        Match m = match_bare(p, at, &bare.end);
        keep_better(m, bare, &best, opening);
    }
    return best;
}

Step answer_step_content(AnswerParser *p) {
    answer_drop_space(p);
    bool at_start = p->at_start;
    for (uint32_t at = p->scan; at < p->length; at++) {
        Opening opening = {0};
        p->at_start = at_start;
        Match m = match_opening(p, at, &opening);
        if (m == MATCH_NO) {
            if (!answer_is_space(p->window[at])) at_start = false;
            continue;
        }
        uint32_t text = answer_before_space(p, at);
        answer_pass_on(p, text);
        p->scan = at - text;
        if (m == MATCH_PART) return STEP_MORE;
        p->scan = 0;
        p->at = opening.end - text;
        p->is_bare = opening.is_bare;
        if (opening.step == step_reasoning) {
            answer_drop(p, p->at);
            p->text_kind = ANSWER_REASONING;
            p->drops_space = true;
        }
        return answer_go(p, opening.step);
    }
    p->at_start = at_start;
    answer_pass_on(p, answer_before_space(p, p->length));
    p->scan = p->length; // what is left is white space
    return STEP_MORE;
}

// ---- the stream ----

// Calls that are passed through as content are still messages of Harmony.
static StepFunction *text_step(const AnswerParser *p) {
    return answer_is_harmony(p->formats) ? answer_step_message : answer_step_content;
}

static void break_frame(AnswerParser *p) {
    if (p->call_is_open) close_call(p, true);
    p->in_list = p->in_section = false;
    p->text_kind = ANSWER_CONTENT;
    answer_pass_on(p, p->at);
    p->drops_space = p->after_call = p->at_start = false;
    p->scan = 0;
    p->step = text_step(p);
}

static bool is_text(const AnswerParser *p) {
    return p->step == answer_step_content || p->step == step_reasoning || p->step == answer_step_message;
}

static void run(AnswerParser *p) {
    for (;;) {
        Step step = p->step(p);
        if (step == STEP_AGAIN) continue;
        if (step == STEP_MORE) {
            bool full = p->length > sizeof p->window - UTF8_BYTES_MAX;
            if (!p->ended && !full) break;
            if (is_text(p)) {
                answer_pass_on(p, p->length); // what ends here, or more white space than can be held
                break;
            }
            p->at = p->length;
        }
        break_frame(p);
    }
    flush(p);
}

uint64_t answer_parser_bytes(void) {
    return sizeof(AnswerParser) + _Alignof(AnswerParser);
}

AnswerParser *answer_parser_create(Arena *arena) {
    return arena_new(arena, AnswerParser, 1);
}

static void find_ids(const Tokenizer *t, const char *const *marks, uint32_t n_max, int32_t *ids) {
    for (uint32_t i = 0; i < n_max; i++)
        ids[i] = marks[i] ? tokenizer_token_by_text(t, str_from_c(marks[i])) : TOKEN_NONE;
}

static StepFunction *first_step(const AnswerParser *p, AnswerOpening opening) {
    if (answer_is_harmony(p->formats))
        return opening == ANSWER_OPENS_HEADER ? answer_step_header : answer_step_message;
    if (p->text_kind == ANSWER_REASONING) return step_reasoning;
    return p->format && opening == ANSWER_OPENS_HEADER ? answer_step_call : answer_step_content;
}

void answer_parser_begin(AnswerParser *p, const AnswerFormats *f, const Tokenizer *t,
                         const AnswerTools *tools, AnswerOpening opening) {
    memset(p, 0, offsetof(AnswerParser, out));
    p->length = p->at = p->n_marks = p->out_length = 0;
    p->formats = f;
    p->tokenizer = t;
    p->tools = tools;
    p->format = tools ? f->tools : NULL;
    p->reasoning = f->reasoning;
    if (!p->format) p->tools = NULL;
    if (answer_is_harmony(f)) p->format = answer_harmony_format(); // its messages are told apart in any case
    if (p->format) find_ids(t, p->format->marks, FORMAT_MARKS_MAX, p->format_ids);
    if (p->reasoning) find_ids(t, p->reasoning->marks, REASONING_MARKS_MAX, p->reasoning_ids);
    bool reasons = p->reasoning && opening == ANSWER_OPENS_REASONING;
    p->text_kind = reasons ? ANSWER_REASONING : ANSWER_CONTENT;
    p->step = first_step(p, opening);
    p->drops_space = reasons;
    p->at_start = true;
}

void answer_parser_push(AnswerParser *p, Str text, AnswerSink sink) {
    p->sink = sink;
    while (text.len) {
        // run() leaves room for a character at least.
        uint32_t taken = (uint32_t)min_u64(text.len, sizeof p->window - p->length);
        if (taken < text.len) taken -= (uint32_t)utf8_incomplete_tail(str_slice(text, 0, taken));
        memcpy(p->window + p->length, text.ptr, taken);
        p->length += taken;
        text = str_slice(text, taken, text.len);
        run(p);
    }
}

void answer_parser_push_mark(AnswerParser *p, int32_t token, AnswerSink sink) {
    Str text = tokenizer_piece(p->tokenizer, token, true);
    p->sink = sink;
    if (!answer_is_mark(p->formats, token)) {
        answer_parser_push(p, text, sink);
        return;
    }
    if (p->n_marks == ANSWER_HELD_MARKS_MAX || text.len > sizeof p->window - p->length) {
        p->at = p->length;
        break_frame(p);
    }
    if (text.len == 0 || text.len > sizeof p->window) return;
    p->marks[p->n_marks++] = (HeldMark){p->length, (uint32_t)text.len, token};
    memcpy(p->window + p->length, text.ptr, text.len);
    p->length += (uint32_t)text.len;
    run(p);
}

static bool is_cut_mark(const AnswerParser *p) {
    Opening opening = {0};
    uint32_t end;
    if (p->scan == p->length) return false;
    if (p->step == step_reasoning)
        return answer_match_reasoning(p, p->scan, p->reasoning->close, &end) == MATCH_PART;
    if (p->step == answer_step_message) return answer_is_cut_message(p);
    return match_opening(p, p->scan, &opening) == MATCH_PART && !opening.is_bare;
}

// Nobody will know what the beginning of a mark, or of a call's frame, would have become: it is no text. A
// call without marks may just as well be an object that the answer is.
static void drop_what_is_cut(AnswerParser *p) {
    uint32_t end = p->length;
    bool is_bare = p->is_bare && p->n_begun == 0;
    if (p->call_is_open) answer_drop(p, p->length);
    else if (is_text(p)) end = is_cut_mark(p) ? p->scan : end;
    else if (!is_bare) end = 0;
    if (end >= p->length) return;
    p->length = end;
    while (p->n_marks && p->marks[p->n_marks - 1].at >= end)
        p->n_marks--;
    p->at = (uint32_t)min_u64(p->at, end);
}

void answer_parser_end(AnswerParser *p, bool is_cut, AnswerSink sink) {
    p->sink = sink;
    if (is_cut) drop_what_is_cut(p);
    p->ended = true;
    run(p);
}

bool answer_parser_is_reasoning(const AnswerParser *p) {
    return p->text_kind == ANSWER_REASONING;
}

uint32_t answer_parser_calls(const AnswerParser *p) {
    return p->n_whole;
}
