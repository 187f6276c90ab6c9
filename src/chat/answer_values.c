// Arguments that are not written as JSON: keys and values between marks, Python's calls, Gemma's braces. What
// goes out is JSON.
#include "chat/answer_internal.h"

#include "base/strbuf.h"
#include "base/utf8.h"

enum { KEY_BYTES_MAX = 1024, WORD_BYTES_MAX = 4096 };

static void emit(AnswerParser *p, Str text) {
    answer_emit(p, ANSWER_CALL_ARGUMENTS, text);
}

// ---- values as text ----

typedef enum { WORD_NOT, WORD_PART, WORD_WHOLE } WordState;

// Python's names of constants, and JSON's.
static const struct {
    Str python, json;
    uint8_t type;
} constants[] = {
    {STR("True"), STR("true"), TYPE_BOOLEAN},
    {STR("False"), STR("false"), TYPE_BOOLEAN},
    {STR("None"), STR("null"), TYPE_NULL},
};

static uint8_t type_of_json(char first) {
    switch (first) {
    case '"': return TYPE_STRING;
    case '{': return TYPE_OBJECT;
    case '[': return TYPE_ARRAY;
    case 't':
    case 'f': return TYPE_BOOLEAN;
    case 'n': return TYPE_NULL;
    default: return TYPE_NUMBER;
    }
}

static Str trim(Str s) {
    while (s.len && answer_is_space(s.ptr[0]))
        s = str_slice(s, 1, s.len);
    while (s.len && answer_is_space(s.ptr[s.len - 1]))
        s.len--;
    return s;
}

// Whether a parameter of these types takes what begins so as JSON.
static bool takes_json(uint8_t types, char first) {
    return !(types & TYPE_STRING) || (types & type_of_json(first) & ~TYPE_STRING);
}

// What the value is in JSON, where it is not a string; empty: it is a string. A parameter that takes strings
// and others is given the others where they look like it. answer_reading() says the same as patterns.
static Str json_of_value(Str value, uint8_t types) {
    JsonCheck check = json_check_begin();
    size_t taken;
    value = trim(value);
    if (value.len == 0 || types == TYPE_STRING) return (Str){0};
    for (size_t i = 0; i < COUNT_OF(constants); i++) {
        bool allowed = types == 0 || (types & constants[i].type);
        if (allowed && str_eq(value, constants[i].python)) return constants[i].json;
    }
    JsonCheckState state = json_check_push(&check, value, &taken);
    bool whole = (state == JSON_CHECK_DONE && taken == value.len) ||
                 (state == JSON_CHECK_MORE && json_check_end(&check));
    return whole && takes_json(types, value.ptr[0]) ? value : (Str){0};
}

void answer_reading(uint8_t types, char *memory, size_t size, ArgumentReading *out) {
    static const struct {
        uint8_t type;
        const char *pattern;
    } others[] = {{TYPE_BOOLEAN, "true|false|True|False"},
                  {TYPE_NULL, "null|None"},
                  {TYPE_NUMBER, "-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?"},
                  {TYPE_OBJECT, "\\{[\\s\\S]*"},
                  {TYPE_ARRAY, "\\[[\\s\\S]*"},
                  {0, "\"[\\s\\S]*"}};
    StrBuf b = {.ptr = memory, .cap = size};
    *out = (ArgumentReading){.as_string = types == 0 || (types & TYPE_STRING),
                             .as_json = types != TYPE_STRING,
                             .as_quoted = types == 0};
    for (size_t i = 0; types != TYPE_STRING && i < COUNT_OF(others); i++) {
        if (types && !(types & others[i].type)) continue;
        strbuf_printf(&b, "%s%s", b.len ? "|" : "[ \\t\\n\\r]*(", others[i].pattern);
    }
    if (b.len) strbuf_put(&b, STR(")[ \\t\\n\\r]*"));
    out->not_strings = strbuf_str(&b);
}

static void emit_value(AnswerParser *p, Str value, uint8_t types) {
    Str json = json_of_value(value, types);
    if (json.len) {
        emit(p, json);
        return;
    }
    emit(p, STR("\""));
    answer_emit_escaped(p, value);
    emit(p, STR("\""));
}

// The call begins with its first key, or where it ends without one.
static void open_arguments(AnswerParser *p) {
    if (p->call_is_open) return;
    answer_begin_call(p);
    emit(p, STR("{"));
}

// `is_json`: the key is written as JSON has it between quotes.
static void emit_key(AnswerParser *p, Str key, bool is_json) {
    open_arguments(p);
    emit(p, p->comma ? STR(", \"") : STR("\""));
    if (is_json) emit(p, key);
    else answer_emit_escaped(p, key);
    emit(p, STR("\": "));
    p->comma = true;
    // Inside of an argument nobody says.
    p->types = p->depth ? 0 : answer_tools_types(&p->tools->tools[p->tool], key);
}

// ---- keys and values between marks ----

static Step step_marked_key(AnswerParser *p);
static Step step_marked_value(AnswerParser *p);

static Step end_loose_arguments(AnswerParser *p) {
    open_arguments(p);
    emit(p, STR("}"));
    answer_end_call(p);
    return answer_go(p, answer_step_behind_call);
}

Step answer_step_keyed(AnswerParser *p) {
    const ToolFormat *f = p->format;
    Match key = answer_take(p, f->key_open);
    if (key == MATCH_YES) return answer_go(p, step_marked_key);
    Match end = answer_take(p, f->end);
    if (end == MATCH_YES) return end_loose_arguments(p);
    return key == MATCH_PART || end == MATCH_PART ? STEP_MORE : STEP_BROKEN;
}

static Step step_marked_key(AnswerParser *p) {
    const ToolFormat *f = p->format;
    for (uint32_t at = p->at; at < p->length && at - p->at < KEY_BYTES_MAX; at++) {
        uint32_t end;
        Match m = answer_match(p, at, f->key_close, &end);
        bool is_string = false;
        if (m != MATCH_YES && f->string_key_close) {
            Match too = answer_match(p, at, f->string_key_close, &end);
            is_string = too == MATCH_YES;
            if (too != MATCH_NO) m = too;
        }
        if (m == MATCH_PART) return STEP_MORE;
        if (m == MATCH_NO) continue;
        emit_key(p, trim(answer_window(p, p->at, at)), false);
        if (f->string_key_close) p->types = is_string ? TYPE_STRING : 0;
        answer_drop(p, end);
        p->scan = 0;
        p->as_string = p->as_json = p->value_begun = false;
        return answer_go(p, step_marked_value);
    }
    return p->length - p->at < KEY_BYTES_MAX ? STEP_MORE : STEP_BROKEN;
}

// A value that is longer than what can be held is passed on as what it has been so far. A number may still
// turn out to be the beginning of a string.
static bool commits_to_json(const AnswerParser *p, Str value) {
    JsonCheck check = json_check_begin();
    size_t taken;
    bool may_be_string = p->types == 0 || (p->types & TYPE_STRING);
    value = trim(value);
    if (p->types == TYPE_STRING || value.len == 0 || !takes_json(p->types, value.ptr[0])) return false;
    if (may_be_string && type_of_json(value.ptr[0]) == TYPE_NUMBER) return false;
    return json_check_push(&check, value, &taken) == JSON_CHECK_MORE;
}

static void commit_value(AnswerParser *p) {
    p->as_json = commits_to_json(p, answer_window(p, 0, p->scan));
    p->as_string = !p->as_json;
    if (p->as_string) emit(p, STR("\""));
    p->check = json_check_begin();
}

// Passes on the value's bytes up to `end`. False where they are not the JSON that they began as.
static bool pass_value(AnswerParser *p, uint32_t end) {
    Str text = answer_window(p, 0, end);
    size_t taken = text.len;
    bool ok = true;
    if (p->as_string) {
        answer_emit_escaped(p, text);
    } else {
        JsonCheckState state = json_check_push(&p->check, text, &taken);
        emit(p, str_slice(text, 0, taken));
        while (state == JSON_CHECK_DONE && taken < text.len && answer_is_space(text.ptr[taken]))
            taken++;
        ok = taken == text.len;
    }
    answer_drop(p, (uint32_t)taken);
    p->scan = 0;
    p->at = 0;
    return ok;
}

static Step end_value(AnswerParser *p, uint32_t value_end, uint32_t end) {
    if (p->format->value_lines && value_end && p->window[value_end - 1] == '\n') value_end--;
    if (p->as_string || p->as_json) {
        uint32_t close_bytes = end - value_end;
        if (!pass_value(p, value_end)) return STEP_BROKEN;
        if (p->as_json && !json_check_end(&p->check)) return STEP_BROKEN;
        if (p->as_string) emit(p, STR("\""));
        answer_drop(p, close_bytes);
    } else {
        emit_value(p, answer_window(p, 0, value_end), p->types);
        answer_drop(p, end);
    }
    p->at = 0;
    return answer_go(p, answer_step_keyed);
}

static Step step_marked_value(AnswerParser *p) {
    if (!p->value_begun && p->format->value_lines) {
        if (p->length == 0) return STEP_MORE;
        if (p->window[0] == '\n') answer_drop(p, 1);
    }
    p->value_begun = true;
    // A string goes out as it comes.
    if (p->types == TYPE_STRING && !p->as_string) commit_value(p);
    for (; p->scan < p->length; p->scan++) {
        uint32_t end;
        Match m = answer_match(p, p->scan, p->format->value_close, &end);
        if (m == MATCH_YES) return end_value(p, p->scan, end);
        if (m == MATCH_PART) break;
        if (p->scan == sizeof p->window / 2 && !p->as_string && !p->as_json) commit_value(p);
    }
    if (!p->as_string && !p->as_json) return STEP_MORE;
    uint32_t sure = p->scan;
    if (sure && p->window[sure - 1] == '\n') sure--; // it may be the one in front of the closing mark
    return pass_value(p, sure) ? STEP_MORE : STEP_BROKEN;
}

// ---- Python's calls and Gemma's braces ----

static Step step_loose_key(AnswerParser *p);
static Step step_loose_value(AnswerParser *p);
static Step step_loose_string(AnswerParser *p);
static Step step_loose_word(AnswerParser *p);
static Step step_loose_behind(AnswerParser *p);

static bool in_object(const AnswerParser *p) {
    return p->depth == 0 || (p->objects >> (p->depth - 1) & 1u);
}

// What closes the container that is open.
static char closer(const AnswerParser *p) {
    if (p->depth == 0) return p->format->shape == CALLS_PYTHON ? ')' : '}';
    return in_object(p) ? '}' : ']';
}

// At the first key or element, or behind a comma: the container may also end here.
Step answer_step_loose(AnswerParser *p) {
    answer_skip_space(p);
    if (p->at == p->length) return STEP_MORE;
    if (answer_take_byte(p, closer(p))) {
        if (p->depth == 0) return end_loose_arguments(p);
        answer_drop(p, p->at);
        emit(p, in_object(p) ? STR("}") : STR("]"));
        p->depth--;
        p->comma = true;
        return answer_go(p, step_loose_behind);
    }
    if (in_object(p)) return answer_go(p, step_loose_key);
    if (p->comma) emit(p, STR(", "));
    p->comma = true;
    p->types = 0;
    return answer_go(p, step_loose_value);
}

static Step step_loose_behind(AnswerParser *p) {
    answer_skip_space(p);
    answer_drop(p, p->at);
    if (p->length == 0) return STEP_MORE;
    if (answer_take_byte(p, ',')) {
        answer_drop(p, p->at);
        return answer_go(p, answer_step_loose);
    }
    bool closes = p->window[0] == closer(p) && !answer_mark_at(p, 0);
    return closes ? answer_go(p, answer_step_loose) : STEP_BROKEN;
}

// The quote at `at`: the format's, or ' or ".
static Match match_quote(const AnswerParser *p, uint32_t *end, char *quote) {
    *quote = 0;
    if (p->at == p->length) return MATCH_PART;
    char c = p->window[p->at];
    if (!answer_mark_at(p, p->at) && (c == '"' || (c == '\'' && p->format->shape == CALLS_PYTHON))) {
        *quote = c;
        *end = p->at + 1;
        return MATCH_YES;
    }
    return p->format->quote ? answer_match(p, p->at, p->format->quote, end) : MATCH_NO;
}

// Where the string ends that began in front of `from`; *end is behind its quote.
static Match find_quote(const AnswerParser *p, uint32_t from, char quote, uint32_t *at, uint32_t *end) {
    for (*at = from; *at < p->length && *at - from < KEY_BYTES_MAX; (*at)++) {
        *end = *at + 1;
        if (quote && p->window[*at] == '\\') {
            (*at)++;
            continue;
        }
        Match m = quote ? (p->window[*at] == quote ? MATCH_YES : MATCH_NO)
                        : answer_match(p, *at, p->format->quote, end);
        if (m != MATCH_NO) return m;
    }
    return *at - from < KEY_BYTES_MAX ? MATCH_PART : MATCH_NO;
}

// A key whose escapes are those of JSON stays as it is written; others have none that matter.
static Step quoted_key(AnswerParser *p, uint32_t from, char quote) {
    uint32_t at, end;
    Match m = find_quote(p, from, quote, &at, &end);
    if (m != MATCH_YES) return m == MATCH_PART ? STEP_MORE : STEP_BROKEN;
    JsonCheck check = json_check_begin();
    size_t taken;
    Str text = answer_window(p, from, at), with_quotes = answer_window(p, from - (quote != 0), end);
    while (end < p->length && answer_is_space(p->window[end]))
        end++;
    if (end == p->length) return STEP_MORE;
    if (p->window[end] != ':' || answer_mark_at(p, end)) return STEP_BROKEN;
    bool is_json = quote == '"' && json_check_push(&check, with_quotes, &taken) == JSON_CHECK_DONE;
    emit_key(p, text, is_json);
    answer_drop(p, end + 1);
    return answer_go(p, step_loose_value);
}

static bool is_key_byte(const AnswerParser *p, char c) {
    unsigned char least = p->format->shape == CALLS_BRACED ? ' ' : '!';
    return (unsigned char)c >= least && !strchr("{}[](),:='\"<", c);
}

static Step step_loose_key(AnswerParser *p) {
    uint32_t end;
    char quote;
    bool keyword = p->depth == 0 && p->format->shape == CALLS_PYTHON;
    answer_skip_space(p);
    Match quoted = keyword ? MATCH_NO : match_quote(p, &end, &quote);
    if (quoted == MATCH_PART) return STEP_MORE;
    if (quoted == MATCH_YES) return quoted_key(p, end, quote);
    Str text = answer_plain_text(p);
    size_t length = 0;
    while (length < text.len && is_key_byte(p, text.ptr[length]))
        length++;
    size_t colon = length;
    while (colon < text.len && answer_is_space(text.ptr[colon]))
        colon++;
    if (length > KEY_BYTES_MAX) return STEP_BROKEN;
    if (colon == text.len) return p->at + text.len == p->length ? STEP_MORE : STEP_BROKEN;
    if (length == 0 || text.ptr[colon] != (keyword ? '=' : ':')) return STEP_BROKEN;
    emit_key(p, trim(str_slice(text, 0, length)), false);
    answer_drop(p, p->at + (uint32_t)colon + 1);
    return answer_go(p, step_loose_value);
}

static Step open_container(AnswerParser *p, bool object) {
    if (p->depth == JSON_DEPTH_MAX - 1) return STEP_BROKEN; // with the arguments around it
    uint64_t bit = 1ull << p->depth++;
    p->objects = object ? p->objects | bit : p->objects & ~bit;
    emit(p, object ? STR("{") : STR("["));
    p->comma = false;
    answer_drop(p, p->at);
    return answer_go(p, answer_step_loose);
}

static Step step_loose_value(AnswerParser *p) {
    uint32_t end;
    answer_skip_space(p);
    Match quoted = match_quote(p, &end, &p->quote);
    if (quoted == MATCH_PART) return STEP_MORE;
    if (quoted == MATCH_YES) {
        emit(p, STR("\""));
        answer_drop(p, end);
        p->at = 0;
        return answer_go(p, step_loose_string);
    }
    if (answer_take_byte(p, '{')) return open_container(p, true);
    if (answer_take_byte(p, '[')) return open_container(p, false);
    return answer_go(p, step_loose_word);
}

// Numbers, constants, and strings without quotes.
static Step step_loose_word(AnswerParser *p) {
    Str text = answer_plain_text(p);
    size_t length = 0;
    while (length < text.len && text.ptr[length] != ',' && text.ptr[length] != closer(p))
        length++;
    if (length > WORD_BYTES_MAX) return STEP_BROKEN;
    if (length == text.len) return p->at + text.len == p->length ? STEP_MORE : STEP_BROKEN;
    Str word = trim(str_slice(text, 0, length));
    if (word.len == 0) return STEP_BROKEN;
    emit_value(p, word, p->types);
    answer_drop(p, p->at + (uint32_t)length);
    return answer_go(p, step_loose_behind);
}

static Step end_string(AnswerParser *p, uint32_t end) {
    emit(p, STR("\""));
    answer_drop(p, end);
    return answer_go(p, step_loose_behind);
}

// A string between the format's quotes: everything in it stands for itself.
static Step step_plain_string(AnswerParser *p) {
    for (uint32_t at = 0; at < p->length; at++) {
        uint32_t end;
        Match m = answer_match(p, at, p->format->quote, &end);
        if (m == MATCH_NO) continue;
        answer_emit_escaped(p, answer_window(p, 0, at));
        if (m == MATCH_YES) return end_string(p, end);
        answer_drop(p, at);
        return STEP_MORE;
    }
    answer_emit_escaped(p, answer_window(p, 0, p->length));
    answer_drop(p, p->length);
    return STEP_MORE;
}

// Digits of one escape, which begins at the front of the window: \x41, \u0041, \U00000041.
static Step pass_number_escape(AnswerParser *p, uint32_t digits) {
    char utf8[4];
    uint32_t value = 0;
    for (uint32_t i = 0; i < digits; i++) {
        if (2 + i == p->length) return STEP_MORE;
        char c = p->window[2 + i];
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                                : 16;
        if (digit == 16) return STEP_BROKEN;
        value = value << 4 | digit;
    }
    if (value > 0x10FFFF) return STEP_BROKEN;
    if (value < 0x80) {
        utf8[0] = (char)value;
        answer_emit_escaped(p, (Str){utf8, 1});
    } else if (value >= 0xD800 && value <= 0xDFFF) { // half of a pair, as JSON has them, too
        char memory[8];
        StrBuf escape = STRBUF(memory);
        strbuf_printf(&escape, "\\u%04x", value);
        emit(p, strbuf_str(&escape));
    } else {
        emit(p, (Str){utf8, utf8_encode(value, utf8)});
    }
    answer_drop(p, 2 + digits);
    return STEP_AGAIN;
}

// The backslash at the front of the window and what follows, as Python has it.
static Step pass_escape(AnswerParser *p) {
    static const char names[] = "ntrbfav0", bytes[] = "\n\t\r\b\f\a\v";
    if (p->length == 1) return STEP_MORE;
    char c = p->window[1];
    if (c == 'x') return pass_number_escape(p, 2);
    if (c == 'u') return pass_number_escape(p, 4);
    if (c == 'U') return pass_number_escape(p, 8);
    const char *known = c ? strchr(names, c) : NULL;
    if (known) answer_emit_escaped(p, (Str){bytes + (known - names), 1});
    else if (c && strchr("\\'\"/", c)) answer_emit_escaped(p, (Str){p->window + 1, 1});
    else if (c != '\n') answer_emit_escaped(p, (Str){p->window, 2});
    answer_drop(p, 2);
    return STEP_AGAIN;
}

static Step step_loose_string(AnswerParser *p) {
    if (p->quote == 0) return step_plain_string(p);
    uint32_t at = 0;
    while (at < p->length && p->window[at] != p->quote && p->window[at] != '\\')
        at++;
    answer_emit_escaped(p, answer_window(p, 0, at));
    answer_drop(p, at);
    if (p->length == 0) return STEP_MORE;
    return p->window[0] == '\\' ? pass_escape(p) : end_string(p, 1);
}
