// The window, and the text between calls. answer_calls.c has what follows a call's opening mark.
#include "chat/answer_internal.h"

enum { SPACE_HELD_MAX = 256 }; // more white space than this is passed on before it is known what follows

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

void answer_skip_space(AnswerParser *p) {
    while (p->at < p->length && answer_is_space(p->window[p->at]) && !find_mark(p, p->at))
        p->at++;
}

void answer_drop(AnswerParser *p, uint32_t bytes) {
    uint32_t kept = 0;
    memmove(p->window, p->window + bytes, p->length - bytes);
    p->length -= bytes;
    p->at = p->at > bytes ? p->at - bytes : 0;
    for (uint32_t i = 0; i < p->n_marks; i++) {
        if (p->marks[i].at < bytes) continue;
        p->marks[kept] = p->marks[i];
        p->marks[kept++].at -= bytes;
    }
    p->n_marks = kept;
}

static int32_t id_of_mark(const char *const *marks, const int32_t *ids, uint32_t n_max, const char *literal,
                          size_t *length) {
    int32_t id = TOKEN_NONE;
    *length = 0;
    for (uint32_t i = 0; i < n_max && marks[i]; i++) {
        size_t n = strlen(marks[i]);
        if (ids[i] == TOKEN_NONE || n <= *length || strncmp(literal, marks[i], n) != 0) continue;
        id = ids[i];
        *length = n;
    }
    return id;
}

static Match match(const AnswerParser *p, uint32_t at, const char *literal, uint32_t *end,
                   const char *const *marks, const int32_t *ids, uint32_t n_max) {
    while (*literal) {
        size_t length;
        if (*literal == ' ') {
            while (at < p->length && answer_is_space(p->window[at]) && !find_mark(p, at))
                at++;
            literal++;
            continue;
        }
        if (at == p->length) return p->ended ? MATCH_NO : MATCH_PART;
        int32_t id = id_of_mark(marks, ids, n_max, literal, &length);
        const HeldMark *held = find_mark(p, at);
        if (id == TOKEN_NONE ? held || p->window[at] != *literal : !held || held->id != id) return MATCH_NO;
        at += held ? held->length : 1;
        literal += held ? length : 1;
    }
    *end = at;
    return MATCH_YES;
}

Match answer_match(const AnswerParser *p, uint32_t at, const char *literal, uint32_t *end) {
    return match(p, at, literal, end, p->format->marks, p->format_ids, FORMAT_MARKS_MAX);
}

Match answer_match_reasoning(const AnswerParser *p, uint32_t at, const char *literal, uint32_t *end) {
    return match(p, at, literal, end, p->reasoning->marks, p->reasoning_ids, REASONING_MARKS_MAX);
}

// ---- parts ----

void answer_emit(AnswerParser *p, AnswerPartKind kind, Str text) {
    if (text.len == 0 && kind != ANSWER_CALL && kind != ANSWER_CALL_END) return;
    AnswerPart part = {.kind = kind, .call = p->n_begun ? p->n_begun - 1 : 0, .text = text};
    if (kind == ANSWER_CALL) part.call = p->n_begun++;
    p->sink.part(p->sink.context, &part);
}

void answer_end_call(AnswerParser *p) {
    answer_emit(p, ANSWER_CALL_END, (Str){0});
    p->call_is_open = false;
    p->n_whole++;
}

// Text of the window up to `end` goes out.
static void pass_on(AnswerParser *p, AnswerPartKind kind, uint32_t end) {
    if (end == 0) return;
    answer_emit(p, kind, (Str){p->window, end});
    p->may_reason = p->drops_space = false;
    answer_drop(p, end);
}

// ---- text ----

// `end` less the white space in front of it, unless that is too much to be held.
static uint32_t before_space(const AnswerParser *p, uint32_t end) {
    uint32_t at = end;
    while (at > 0 && answer_is_space(p->window[at - 1]))
        at--;
    return end - at > SPACE_HELD_MAX || p->ended ? end : at;
}

static void drop_space(AnswerParser *p) {
    uint32_t n = 0;
    while (p->drops_space && n < p->length && answer_is_space(p->window[n]))
        n++;
    if (n) answer_drop(p, n);
}

static Step step_reasoning(AnswerParser *p) {
    drop_space(p);
    for (uint32_t at = 0; at < p->length; at++) {
        uint32_t end;
        Match m = answer_match_reasoning(p, at, p->reasoning->close, &end);
        if (m == MATCH_NO) continue;
        uint32_t text = before_space(p, at);
        pass_on(p, ANSWER_REASONING, text);
        if (m == MATCH_PART) return STEP_MORE;
        answer_drop(p, end - text);
        p->step = answer_step_content;
        p->drops_space = true;
        return STEP_AGAIN;
    }
    pass_on(p, ANSWER_REASONING, before_space(p, p->length));
    return STEP_MORE;
}

// Whether a call or reasoning begins at `at`.
static Match match_opening(const AnswerParser *p, uint32_t at, uint32_t *end, StepFunction **next) {
    Match found = MATCH_NO;
    if (p->reasoning && p->may_reason) {
        found = answer_match_reasoning(p, at, p->reasoning->open, end);
        *next = step_reasoning;
    }
    if (p->format && found != MATCH_YES) {
        Match m = answer_match(p, at, p->format->open, end);
        if (m != MATCH_NO) {
            found = m;
            *next = answer_step_call;
        }
    }
    return found;
}

Step answer_step_content(AnswerParser *p) {
    drop_space(p);
    for (uint32_t at = 0; at < p->length; at++) {
        uint32_t end;
        StepFunction *next;
        Match m = match_opening(p, at, &end, &next);
        if (m == MATCH_NO) {
            if (!answer_is_space(p->window[at])) p->may_reason = false;
            continue;
        }
        uint32_t text = before_space(p, at);
        pass_on(p, ANSWER_CONTENT, text);
        if (m == MATCH_PART) return STEP_MORE;
        p->at = end - text;
        p->step = next;
        if (next == step_reasoning) {
            answer_drop(p, p->at);
            p->drops_space = true;
        }
        return STEP_AGAIN;
    }
    pass_on(p, ANSWER_CONTENT, before_space(p, p->length));
    return STEP_MORE;
}

// ---- the stream ----

static void break_frame(AnswerParser *p) {
    if (p->call_is_open) answer_emit(p, ANSWER_CALL_END, (Str){0});
    p->call_is_open = p->in_list = false;
    pass_on(p, ANSWER_CONTENT, p->at);
    p->drops_space = false;
    p->step = answer_step_content;
}

static bool is_text(const AnswerParser *p) {
    return p->step == answer_step_content || p->step == step_reasoning;
}

static void run(AnswerParser *p) {
    for (;;) {
        Step step = p->step(p);
        if (step == STEP_MORE) {
            if (is_text(p) || !(p->ended || p->length == sizeof p->window)) return;
            if (p->ended) p->at = p->length;
            step = STEP_BROKEN;
        }
        if (step == STEP_BROKEN) break_frame(p);
    }
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

void answer_parser_begin(AnswerParser *p, const AnswerFormats *f, const Tokenizer *t,
                         const AnswerTools *tools, AnswerOpening opening) {
    memset(p, 0, offsetof(AnswerParser, window));
    p->length = p->at = p->n_marks = 0;
    p->formats = f;
    p->tokenizer = t;
    p->tools = tools;
    p->format = tools ? f->tools : NULL;
    p->reasoning = f->reasoning;
    if (p->format) find_ids(t, p->format->marks, FORMAT_MARKS_MAX, p->format_ids);
    if (p->reasoning) find_ids(t, p->reasoning->marks, REASONING_MARKS_MAX, p->reasoning_ids);
    bool reasons = p->reasoning && opening == ANSWER_OPENS_REASONING;
    p->step = reasons ? step_reasoning : answer_step_content;
    p->drops_space = reasons;
    p->may_reason = true;
}

void answer_parser_push(AnswerParser *p, Str text, AnswerSink sink) {
    p->sink = sink;
    while (text.len) {
        uint32_t taken = (uint32_t)min_u64(text.len, sizeof p->window - p->length);
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
    if (text.len == 0) return;
    if (p->n_marks == ANSWER_HELD_MARKS_MAX || text.len > sizeof p->window - p->length) {
        p->at = p->length;
        break_frame(p);
        run(p);
    }
    p->marks[p->n_marks++] = (HeldMark){p->length, (uint32_t)text.len, token};
    memcpy(p->window + p->length, text.ptr, text.len);
    p->length += (uint32_t)text.len;
    run(p);
}

void answer_parser_end(AnswerParser *p, int32_t end_token, AnswerSink sink) {
    (void)end_token;
    p->sink = sink;
    p->ended = true;
    run(p);
}

bool answer_parser_is_reasoning(const AnswerParser *p) {
    return p->step == step_reasoning;
}

uint32_t answer_parser_calls(const AnswerParser *p) {
    return p->n_whole;
}
