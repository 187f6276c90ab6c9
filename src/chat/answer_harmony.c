// Harmony, the format of GPT-OSS: an answer is messages, each with a header that names its channel and, for a
// call, its recipient.
//
//     <|channel|>analysis<|message|>reasoning<|end|><|start|>assistant<|channel|>final<|message|>content
//     <|start|>assistant to=functions.NAME<|channel|>commentary json<|message|>{arguments}<|call|>
#include "chat/answer_internal.h"

static const char start_mark[] = "<|start|>", channel_mark[] = "<|channel|>", message_mark[] = "<|message|>";
static const char *const end_marks[] = {"<|end|>", "<|call|>", "<|return|>"};

bool answer_is_harmony(const AnswerFormats *f) {
    return (f->reasoning && f->reasoning->harmony) || (f->tools && f->tools->shape == CALLS_HARMONY);
}

static Match match_end(const AnswerParser *p, uint32_t at, uint32_t *end) {
    Match best = MATCH_NO;
    for (size_t i = 0; i < COUNT_OF(end_marks); i++) {
        Match m = answer_match(p, at, end_marks[i], end);
        if (m == MATCH_YES) return m;
        if (m == MATCH_PART) best = m;
    }
    return best;
}

// A header begins at `at`. *behind is where to look for its message mark.
static Match match_header(const AnswerParser *p, uint32_t at, uint32_t *behind) {
    Match start = answer_match(p, at, start_mark, behind);
    return start == MATCH_YES ? start : (Match)max_u64(start, answer_match(p, at, channel_mark, behind));
}

Step answer_step_message(AnswerParser *p) {
    for (uint32_t at = 0; at < p->length; at++) {
        uint32_t end, behind;
        Match ends = match_end(p, at, &end);
        Match begins = ends == MATCH_YES ? MATCH_NO : match_header(p, at, &behind);
        if (ends == MATCH_NO && begins == MATCH_NO) continue;
        answer_pass_on(p, at);
        if (ends == MATCH_YES) {
            answer_drop(p, end - at);
            return answer_go(p, answer_step_between);
        }
        if (begins != MATCH_YES) return STEP_MORE;
        p->scan = behind - at;
        return answer_go(p, answer_step_header);
    }
    answer_pass_on(p, p->length);
    return STEP_MORE;
}

bool answer_is_cut_message(const AnswerParser *p) {
    uint32_t ignored;
    return match_end(p, 0, &ignored) == MATCH_PART || match_header(p, 0, &ignored) == MATCH_PART;
}

Step answer_step_between(AnswerParser *p) {
    uint32_t end;
    answer_skip_space(p);
    answer_drop(p, p->at);
    p->text_kind = ANSWER_CONTENT;
    if (p->length == 0) return STEP_MORE;
    Match ends = match_end(p, 0, &end);
    if (ends == MATCH_YES) answer_drop(p, end);
    if (ends == MATCH_PART) return STEP_MORE;
    return ends == MATCH_YES ? STEP_AGAIN : answer_go(p, answer_step_message);
}

// What follows `label` in a header, up to white space or a mark; empty where the label is not there.
static Str header_word(Str header, const char *label) {
    const char *found = memmem(header.ptr, header.len, label, strlen(label));
    if (!found) return (Str){0};
    Str word = str_slice(header, (size_t)(found - header.ptr) + strlen(label), header.len);
    size_t length = 0;
    while (length < word.len && !answer_is_space(word.ptr[length]) && word.ptr[length] != '<')
        length++;
    return str_slice(word, 0, length);
}

static uint32_t find_recipient(const AnswerParser *p, Str name) {
    static const Str prefix = STR("functions.");
    if (str_starts_with(name, prefix)) name = str_slice(name, prefix.len, name.len);
    return p->tools ? answer_tools_find(p->tools, name) : TOOL_NONE;
}

// The header up to `at` is whole; its message mark ends at p->at.
static Step take_header(AnswerParser *p, uint32_t at) {
    Str header = answer_window(p, 0, at);
    Str recipient = header_word(header, "to="), channel = header_word(header, channel_mark);
    if (recipient.len) {
        p->tool = find_recipient(p, recipient);
        if (p->tool == TOOL_NONE) return STEP_BROKEN;
        p->check = json_check_begin();
        return answer_go(p, answer_step_arguments);
    }
    p->text_kind = p->reasoning && str_eq(channel, STR("analysis")) ? ANSWER_REASONING : ANSWER_CONTENT;
    answer_drop(p, p->at);
    return answer_go(p, answer_step_message);
}

Step answer_step_header(AnswerParser *p) {
    for (; p->scan < p->length; p->scan++) {
        uint32_t end;
        Match m = answer_match(p, p->scan, message_mark, &p->at);
        if (m == MATCH_YES) return take_header(p, p->scan);
        Match other = match_end(p, p->scan, &end);
        if (other == MATCH_NO) other = answer_match(p, p->scan, start_mark, &end);
        if (other == MATCH_YES) {
            p->at = p->scan;
            return STEP_BROKEN;
        }
        if (m == MATCH_PART || other == MATCH_PART) return STEP_MORE;
    }
    return STEP_MORE;
}
