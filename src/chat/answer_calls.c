// Frames of calls: what opens them, names, objects with name and arguments, and what closes them.
#include "chat/answer_internal.h"

static Step step_key(AnswerParser *p);
static Step step_value(AnswerParser *p);
static Step step_behind_value(AnswerParser *p);
static Step step_name(AnswerParser *p);

// ---- sections and lists ----

static Step leave_calls(AnswerParser *p) {
    p->in_list = p->in_section = false;
    p->text_kind = ANSWER_CONTENT;
    p->drops_space = p->at_start = p->after_call = true;
    answer_drop(p, p->at);
    p->scan = 0;
    return answer_go(p, answer_step_content);
}

Step answer_step_section(AnswerParser *p) {
    bool is_between = p->after_call && p->at == 0; // calls, where white space is dropped
    p->in_section = true;
    answer_skip_space(p);
    if (is_between) answer_drop(p, p->at);
    Match open = answer_take(p, p->format->open);
    if (open == MATCH_YES) return answer_go(p, answer_step_call);
    Match close = answer_take(p, p->format->section_close);
    if (close == MATCH_YES && p->after_call) return leave_calls(p);
    return open == MATCH_PART || close == MATCH_PART ? STEP_MORE : STEP_BROKEN;
}

static bool takes_objects(const ToolFormat *f) {
    return f->name_key != NULL;
}

Step answer_step_call(AnswerParser *p) {
    const ToolFormat *f = p->format;
    answer_skip_space(p);
    if (p->at == p->length) return STEP_MORE;
    if ((takes_objects(f) || f->shape == CALLS_PYTHON) && !p->in_list && answer_take_byte(p, '[')) {
        p->in_list = true;
        return STEP_AGAIN;
    }
    p->has_name = p->has_arguments = p->comma = false;
    p->depth = 0;
    if (takes_objects(f) && answer_take_byte(p, '{')) return answer_go(p, step_key);
    if (f->shape == CALLS_OBJECT || (takes_objects(f) && p->in_list)) return STEP_BROKEN;
    if (answer_take(p, f->before_name) == MATCH_PART) return STEP_MORE;
    return answer_go(p, step_name);
}

// Behind the arguments of a call: the next one of a list, or the end of the frame.
Step answer_step_behind_call(AnswerParser *p) {
    const ToolFormat *f = p->format;
    p->after_call = true;
    answer_skip_space(p);
    if (p->in_list) {
        if (p->at == p->length && !p->ended) return STEP_MORE;
        if (answer_take_byte(p, ',')) return answer_go(p, answer_step_call);
        p->in_list = false;
        if (!answer_take_byte(p, ']')) return leave_calls(p);
        answer_skip_space(p);
    }
    // Some write one object after the other: nothing is decided before it is known what comes.
    if (takes_objects(f) && !p->is_bare && p->at == p->length && !p->ended) return STEP_MORE;
    bool object = takes_objects(f) && !p->is_bare && p->at < p->length && p->window[p->at] == '{';
    if (object && !answer_mark_at(p, p->at)) return answer_go(p, answer_step_call);
    if (answer_take(p, f->after_arguments) == MATCH_PART) return STEP_MORE;
    uint32_t arguments_end = p->at;
    if (answer_take(p, f->close) == MATCH_PART) {
        p->at = arguments_end;
        return STEP_MORE;
    }
    if (!p->in_section) return leave_calls(p);
    // White space between calls is dropped, whatever becomes of the next one.
    answer_skip_space(p);
    answer_drop(p, p->at);
    if (p->length == 0 && p->ended) return leave_calls(p);
    return answer_go(p, answer_step_section);
}

// ---- names ----

bool answer_is_name_byte(char c) {
    unsigned char u = (unsigned char)c;
    return (u >= 'a' && u <= 'z') || (u >= 'A' && u <= 'Z') || (u >= '0' && u <= '9') || u == '_' ||
           u == '-' || u == '.' || u >= 0x80;
}

static Match match_name_end(const AnswerParser *p, uint32_t at, uint32_t *end) {
    *end = at;
    if (at == p->length) return p->ended ? MATCH_NO : MATCH_PART;
    return answer_mark_at(p, at) || !answer_is_name_byte(p->window[at]) ? MATCH_YES : MATCH_NO;
}

// The name is there; what follows must be as the format says. *end is behind that.
static Match match_behind_name(const AnswerParser *p, uint32_t at, uint32_t *end) {
    const char *const *literals = p->format->after_names;
    for (uint32_t i = 0; i < AFTER_NAMES_MAX && literals[i]; i++) {
        Match m = literals[i][0] ? answer_match(p, at, literals[i], end) : match_name_end(p, at, end);
        if (m != MATCH_NO) return m;
    }
    return literals[0] ? MATCH_NO : match_name_end(p, at, end);
}

static Match match_name(const AnswerParser *p, Str name, uint32_t *end) {
    Str text = answer_plain_text(p);
    bool whole = p->at + text.len == p->length && !p->ended; // nothing but text follows so far
    if (text.len < name.len) return whole && str_starts_with(name, text) ? MATCH_PART : MATCH_NO;
    return str_starts_with(text, name) ? match_behind_name(p, p->at + (uint32_t)name.len, end) : MATCH_NO;
}

// What is called so is no call: its text is content.
static Match take_content_name(AnswerParser *p) {
    uint32_t end;
    if (!p->format->content_name) return MATCH_NO;
    Match m = match_name(p, str_from_c(p->format->content_name), &end);
    if (m == MATCH_YES) answer_drop(p, end);
    return m;
}

static Step step_name(AnswerParser *p) {
    Match content = take_content_name(p), best = content;
    if (content == MATCH_YES) {
        p->at_start = p->drops_space = false;
        p->scan = 0;
        return answer_go(p, answer_step_content);
    }
    for (uint32_t i = 0; i < p->tools->n_tools; i++) {
        uint32_t end;
        Match m = match_name(p, p->tools->tools[i].name, &end);
        if (m == MATCH_PART) best = m;
        if (m != MATCH_YES) continue;
        p->at = end;
        p->tool = i;
        switch (p->format->shape) {
        case CALLS_KEYED: return answer_go(p, answer_step_keyed);
        case CALLS_PYTHON:
        case CALLS_BRACED: return answer_go(p, answer_step_loose);
        default: p->check = json_check_begin(); return answer_go(p, answer_step_arguments);
        }
    }
    return best == MATCH_PART ? STEP_MORE : STEP_BROKEN;
}

// ---- arguments in JSON ----

// Passes on what is JSON of the arguments that the call has begun with.
static JsonCheckState pass_json(AnswerParser *p) {
    size_t taken;
    Str text = answer_plain_text(p);
    JsonCheckState state = json_check_push(&p->check, text, &taken);
    answer_emit(p, ANSWER_CALL_ARGUMENTS, str_slice(text, 0, taken));
    p->at += (uint32_t)taken;
    answer_drop(p, p->at);
    if (state == JSON_CHECK_MORE && p->length > 0) return JSON_CHECK_BAD; // a mark
    return state;
}

static Step end_arguments(AnswerParser *p) {
    answer_end_call(p);
    return answer_go(p, p->format->shape == CALLS_HARMONY ? answer_step_between : answer_step_behind_call);
}

Step answer_step_arguments(AnswerParser *p) {
    uint32_t ignored;
    if (!p->call_is_open) {
        answer_skip_space(p);
        if (p->at == p->length && !p->ended) return STEP_MORE;
        bool object = p->at < p->length && p->window[p->at] == '{' && !answer_mark_at(p, p->at);
        const char *close = p->format->close;
        Match closes = close && !object ? answer_match(p, p->at, close, &ignored) : MATCH_NO;
        if (closes == MATCH_PART) return STEP_MORE;
        if (!object && closes == MATCH_NO) return STEP_BROKEN;
        answer_begin_call(p);
        answer_drop(p, p->at);
        if (closes == MATCH_YES) {
            answer_emit(p, ANSWER_CALL_ARGUMENTS, STR("{}"));
            return end_arguments(p);
        }
    }
    JsonCheckState state = pass_json(p);
    if (state == JSON_CHECK_DONE) return end_arguments(p);
    return state == JSON_CHECK_MORE ? STEP_MORE : STEP_BROKEN;
}

// ---- objects ----

// The string that begins at `at`, quotes included, as long as it has ended; no mark is in it.
static Match find_string(const AnswerParser *p, uint32_t *end) {
    JsonCheck check = json_check_begin();
    size_t taken;
    Str text = answer_plain_text(p);
    bool whole = p->at + text.len == p->length && !p->ended;
    if (text.len && text.ptr[0] != '"') return MATCH_NO;
    JsonCheckState state = json_check_push(&check, text, &taken);
    *end = p->at + (uint32_t)taken;
    if (state == JSON_CHECK_DONE) return MATCH_YES;
    return state == JSON_CHECK_MORE && whole ? MATCH_PART : MATCH_NO;
}

// Keys that an object may have which is a call without any mark around it: with others it is content.
static bool is_usual_key(Str key) {
    static const Str usual[] = {STR("type"), STR("id"), STR("index"), STR("function")};
    for (size_t i = 0; i < COUNT_OF(usual); i++)
        if (str_eq(key, usual[i])) return true;
    return false;
}

static bool choose_value(AnswerParser *p, Str key) {
    p->value = VALUE_OTHER;
    if (str_eq(key, str_from_c(p->format->name_key)) && !p->has_name) p->value = VALUE_NAME;
    // Models mix these two up.
    bool arguments = str_eq(key, STR("arguments")) || str_eq(key, STR("parameters"));
    if (arguments && !p->has_arguments) p->value = VALUE_ARGUMENTS;
    return p->value != VALUE_OTHER || !p->is_bare || is_usual_key(key);
}

static Step step_key(AnswerParser *p) {
    answer_skip_space(p);
    uint32_t end;
    Match m = find_string(p, &end);
    if (m != MATCH_YES) return m == MATCH_PART ? STEP_MORE : STEP_BROKEN;
    uint32_t colon = end;
    while (colon < p->length && answer_is_space(p->window[colon]))
        colon++;
    if (colon == p->length) return STEP_MORE;
    if (p->window[colon] != ':' || answer_mark_at(p, colon)) return STEP_BROKEN;
    if (!choose_value(p, answer_window(p, p->at + 1, end - 1))) return STEP_BROKEN;
    p->at = colon + 1;
    p->check = json_check_begin();
    p->value_begun = false;
    return answer_go(p, step_value);
}

static Step read_name(AnswerParser *p) {
    uint32_t end;
    Match m = find_string(p, &end);
    if (m != MATCH_YES) return m == MATCH_PART ? STEP_MORE : STEP_BROKEN;
    p->tool = answer_tools_find(p->tools, answer_window(p, p->at + 1, end - 1));
    if (p->tool == TOOL_NONE) return STEP_BROKEN;
    p->at = end;
    p->has_name = true;
    if (p->has_arguments) {
        answer_begin_call(p);
        answer_emit(p, ANSWER_CALL_ARGUMENTS, answer_window(p, p->arguments_at, p->arguments_end));
        answer_drop(p, p->at);
    }
    return answer_go(p, step_behind_value);
}

static Step step_value(AnswerParser *p) {
    if (!p->value_begun) answer_skip_space(p);
    if (p->at == p->length) return STEP_MORE;
    if (p->value == VALUE_NAME) return read_name(p);
    if (answer_mark_at(p, p->at)) return STEP_BROKEN;
    if (p->value == VALUE_ARGUMENTS && !p->value_begun) {
        if (p->window[p->at] != '{') return STEP_BROKEN;
        p->has_arguments = true;
        p->arguments_at = p->at;
        if (p->has_name) {
            answer_begin_call(p);
            answer_drop(p, p->at);
        }
    }
    p->value_begun = true;
    if (p->call_is_open && p->value == VALUE_ARGUMENTS) {
        JsonCheckState state = pass_json(p);
        if (state == JSON_CHECK_DONE) return answer_go(p, step_behind_value);
        return state == JSON_CHECK_MORE ? STEP_MORE : STEP_BROKEN;
    }
    size_t taken;
    JsonCheckState state = json_check_push(&p->check, answer_plain_text(p), &taken);
    p->at += (uint32_t)taken;
    p->arguments_end = p->value == VALUE_ARGUMENTS ? p->at : p->arguments_end;
    if (state == JSON_CHECK_BAD) return STEP_BROKEN;
    if (state == JSON_CHECK_DONE) return answer_go(p, step_behind_value);
    return p->at < p->length ? STEP_BROKEN : STEP_MORE; // a mark breaks it
}

static Step step_behind_value(AnswerParser *p) {
    answer_skip_space(p);
    if (p->at == p->length) return STEP_MORE;
    if (answer_take_byte(p, ',')) return answer_go(p, step_key);
    if (!p->has_name || !answer_take_byte(p, '}')) return STEP_BROKEN;
    if (!p->has_arguments) {
        if (p->is_bare) return STEP_BROKEN;
        answer_begin_call(p);
        answer_emit(p, ANSWER_CALL_ARGUMENTS, STR("{}"));
    }
    answer_end_call(p);
    return answer_go(p, answer_step_behind_call);
}
