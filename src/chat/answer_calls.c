// Calls that are JSON objects with a name and arguments.
#include "chat/answer_internal.h"

static Step step_key(AnswerParser *p);
static Step step_value(AnswerParser *p);
static Step step_behind_value(AnswerParser *p);
static Step step_behind_call(AnswerParser *p);

static bool has_byte(AnswerParser *p, char c) {
    if (p->at == p->length || answer_mark_at(p, p->at) || p->window[p->at] != c) return false;
    p->at++;
    return true;
}

// Room for the calls that follow: what has been read is of no use any more.
static Step go(AnswerParser *p, StepFunction *next) {
    p->step = next;
    return STEP_AGAIN;
}

Step answer_step_call(AnswerParser *p) {
    answer_skip_space(p);
    if (p->at == p->length) return STEP_MORE;
    if (!p->in_list && has_byte(p, '[')) {
        p->in_list = true;
        return STEP_AGAIN;
    }
    if (!has_byte(p, '{')) return STEP_BROKEN;
    p->has_name = p->has_arguments = false;
    return go(p, step_key);
}

// The string that begins at `at`, quotes included, as long as it has ended; no mark is in it.
static Match find_string(const AnswerParser *p, uint32_t *end) {
    JsonCheck check = json_check_begin();
    size_t taken;
    Str text = {p->window + p->at, p->length - p->at};
    if (text.len && (text.ptr[0] != '"' || answer_mark_at(p, p->at))) return MATCH_NO;
    for (uint32_t i = 0; i < p->n_marks; i++)
        if (p->marks[i].at >= p->at) text.len = min_u64(text.len, p->marks[i].at - p->at);
    JsonCheckState state = json_check_push(&check, text, &taken);
    *end = p->at + (uint32_t)taken;
    if (state == JSON_CHECK_DONE) return MATCH_YES;
    return state == JSON_CHECK_BAD || text.len < p->length - p->at ? MATCH_NO : MATCH_PART;
}

static Step step_key(AnswerParser *p) {
    answer_skip_space(p);
    uint32_t end;
    Match m = find_string(p, &end);
    if (m != MATCH_YES) return m == MATCH_PART ? STEP_MORE : STEP_BROKEN;
    Str key = str_slice((Str){p->window, p->length}, p->at + 1, end - 1);
    uint32_t colon = end;
    while (colon < p->length && answer_is_space(p->window[colon]))
        colon++;
    if (colon == p->length) return STEP_MORE;
    if (p->window[colon] != ':') return STEP_BROKEN;
    p->value = VALUE_OTHER;
    if (str_eq(key, str_from_c(p->format->name_key)) && !p->has_name) p->value = VALUE_NAME;
    if (str_eq(key, str_from_c(p->format->arguments_key)) && !p->has_arguments) p->value = VALUE_ARGUMENTS;
    p->at = colon + 1;
    p->check = json_check_begin();
    p->value_begun = false;
    return go(p, step_value);
}

static Step read_name(AnswerParser *p) {
    uint32_t end;
    Match m = find_string(p, &end);
    if (m != MATCH_YES) return m == MATCH_PART ? STEP_MORE : STEP_BROKEN;
    p->tool = answer_tools_find(p->tools, str_slice((Str){p->window, p->length}, p->at + 1, end - 1));
    if (p->tool == UINT32_MAX) return STEP_BROKEN;
    p->at = end;
    p->has_name = true;
    Str arguments = str_slice((Str){p->window, p->length}, p->arguments_at, p->arguments_end);
    answer_emit(p, ANSWER_CALL, p->tools->names[p->tool]);
    p->call_is_open = true;
    if (p->has_arguments) answer_emit(p, ANSWER_CALL_ARGUMENTS, arguments);
    answer_drop(p, p->at);
    return go(p, step_behind_value);
}

static Step step_value(AnswerParser *p) {
    if (!p->value_begun) answer_skip_space(p);
    if (p->at == p->length) return STEP_MORE;
    if (p->value == VALUE_NAME) return read_name(p);
    if (answer_mark_at(p, p->at)) return STEP_BROKEN;
    if (p->value == VALUE_ARGUMENTS && !p->has_arguments) {
        if (p->window[p->at] != '{') return STEP_BROKEN;
        p->has_arguments = true;
        p->arguments_at = p->at;
    }
    Str text = {p->window + p->at, p->length - p->at};
    for (uint32_t i = 0; i < p->n_marks; i++)
        if (p->marks[i].at >= p->at) text.len = min_u64(text.len, p->marks[i].at - p->at);
    p->value_begun = true;
    size_t taken;
    JsonCheckState state = json_check_push(&p->check, text, &taken);
    p->at += (uint32_t)taken;
    p->arguments_end = p->at;
    if (p->call_is_open) {
        if (p->value == VALUE_ARGUMENTS) answer_emit(p, ANSWER_CALL_ARGUMENTS, str_slice(text, 0, taken));
        answer_drop(p, p->at);
    }
    if (state == JSON_CHECK_BAD) return STEP_BROKEN;
    if (state == JSON_CHECK_MORE) return STEP_MORE;
    return go(p, step_behind_value);
}

static Step step_behind_value(AnswerParser *p) {
    answer_skip_space(p);
    if (p->at == p->length) return STEP_MORE;
    if (has_byte(p, ',')) return go(p, step_key);
    if (!p->has_name || !has_byte(p, '}')) return STEP_BROKEN;
    if (!p->has_arguments) answer_emit(p, ANSWER_CALL_ARGUMENTS, STR("{}"));
    answer_end_call(p);
    return go(p, step_behind_call);
}

static Step step_behind_call(AnswerParser *p) {
    answer_skip_space(p);
    if (p->in_list && has_byte(p, ',')) return go(p, answer_step_call);
    if (p->in_list && has_byte(p, ']')) p->in_list = false;
    answer_skip_space(p);
    answer_drop(p, p->at);
    uint32_t end;
    Match m = answer_match(p, 0, p->format->close, &end);
    if (m == MATCH_PART) return STEP_MORE;
    if (m == MATCH_YES) answer_drop(p, end);
    p->in_list = false;
    p->drops_space = p->may_reason = true;
    return go(p, answer_step_content);
}
