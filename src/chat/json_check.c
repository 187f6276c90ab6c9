#include "chat/json_check.h"

static_assert(JSON_DEPTH_MAX <= 64, "a bit for each container");

// What may come next.
enum {
    AT_VALUE,         // a value
    AT_FIRST_ELEMENT, // a value or ]
    AT_FIRST_KEY,     // a key or }
    AT_KEY,
    AT_COLON,
    AT_COMMA, // a comma, or the container's end
    IN_STRING,
    IN_KEY,
    IN_STRING_ESCAPE,
    IN_KEY_ESCAPE,
    IN_NUMBER,
    IN_LITERAL,
    AT_END,
};

// How far a number is; those up to NUMBER_LAST_WHOLE may end there.
enum {
    NUMBER_ZERO,
    NUMBER_DIGITS,
    NUMBER_FRACTION,
    NUMBER_EXPONENT,
    NUMBER_LAST_WHOLE = NUMBER_EXPONENT,
    NUMBER_MINUS,
    NUMBER_POINT,
    NUMBER_E,
    NUMBER_E_SIGN,
};

static const char *const literals[] = {"true", "false", "null"};

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_hex(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

JsonCheck json_check_begin(void) {
    return (JsonCheck){.expects = AT_VALUE};
}

static void value_ended(JsonCheck *c) {
    c->expects = c->depth ? AT_COMMA : AT_END;
}

static bool open_container(JsonCheck *c, bool object) {
    if (c->depth == JSON_DEPTH_MAX) return false;
    uint64_t bit = 1ull << c->depth++;
    c->objects = object ? c->objects | bit : c->objects & ~bit;
    c->expects = object ? AT_FIRST_KEY : AT_FIRST_ELEMENT;
    return true;
}

static bool in_object(const JsonCheck *c) {
    return c->depth && (c->objects >> (c->depth - 1) & 1u);
}

static bool close_container(JsonCheck *c, bool object) {
    if (c->depth == 0 || in_object(c) != object) return false;
    c->depth--;
    value_ended(c);
    return true;
}

static bool take_value_start(JsonCheck *c, char byte) {
    if (byte == '{' || byte == '[') return open_container(c, byte == '{');
    if (byte == '"') {
        c->expects = IN_STRING;
        return true;
    }
    if (byte == '-' || is_digit(byte)) {
        c->number = byte == '-' ? NUMBER_MINUS : byte == '0' ? NUMBER_ZERO : NUMBER_DIGITS;
        c->expects = IN_NUMBER;
        return true;
    }
    for (uint8_t i = 0; i < COUNT_OF(literals); i++) {
        if (byte != literals[i][0]) continue;
        c->literal = i;
        c->literal_at = 1;
        c->expects = IN_LITERAL;
        return true;
    }
    return false;
}

static bool take_in_string(JsonCheck *c, char byte) {
    bool key = c->expects == IN_KEY;
    if (c->hex_left) {
        c->hex_left--;
        return is_hex(byte);
    }
    if (byte == '"') {
        if (key) c->expects = AT_COLON;
        else value_ended(c);
    } else if (byte == '\\') {
        c->expects = key ? IN_KEY_ESCAPE : IN_STRING_ESCAPE;
    }
    return (unsigned char)byte >= 0x20;
}

static bool take_escape(JsonCheck *c, char byte) {
    c->expects = c->expects == IN_KEY_ESCAPE ? IN_KEY : IN_STRING;
    if (byte == 'u') c->hex_left = 4;
    return byte && strchr("\"\\/bfnrtu", byte) != NULL;
}

static bool take_literal(JsonCheck *c, char byte) {
    const char *text = literals[c->literal];
    if (byte != text[c->literal_at]) return false;
    if (text[++c->literal_at] == 0) value_ended(c);
    return true;
}

// False for a byte that is not of the number: it may end there or not.
static bool take_number(JsonCheck *c, char byte) {
    bool e = byte == 'e' || byte == 'E', digit = is_digit(byte);
    switch (c->number) {
    case NUMBER_MINUS: c->number = byte == '0' ? NUMBER_ZERO : NUMBER_DIGITS; return digit;
    case NUMBER_ZERO:
    case NUMBER_DIGITS:
        if (digit) return c->number == NUMBER_DIGITS;
        if (byte == '.') c->number = NUMBER_POINT;
        else if (e) c->number = NUMBER_E;
        return byte == '.' || e;
    case NUMBER_POINT: c->number = NUMBER_FRACTION; return digit;
    case NUMBER_FRACTION:
        if (e) c->number = NUMBER_E;
        return digit || e;
    case NUMBER_E:
        c->number = digit ? NUMBER_EXPONENT : NUMBER_E_SIGN;
        return digit || byte == '+' || byte == '-';
    case NUMBER_E_SIGN: c->number = NUMBER_EXPONENT; return digit;
    default: return digit;
    }
}

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool take(JsonCheck *c, char byte) {
    switch (c->expects) {
    case IN_STRING:
    case IN_KEY: return take_in_string(c, byte);
    case IN_STRING_ESCAPE:
    case IN_KEY_ESCAPE: return take_escape(c, byte);
    case IN_LITERAL: return take_literal(c, byte);
    default: break;
    }
    if (is_space(byte)) return true;
    switch (c->expects) {
    case AT_VALUE: return take_value_start(c, byte);
    case AT_FIRST_ELEMENT: return byte == ']' ? close_container(c, false) : take_value_start(c, byte);
    case AT_FIRST_KEY:
        if (byte == '}') return close_container(c, true);
        c->expects = IN_KEY;
        return byte == '"';
    case AT_KEY: c->expects = IN_KEY; return byte == '"';
    case AT_COLON: c->expects = AT_VALUE; return byte == ':';
    default: // AT_COMMA
        if (byte != ',') return (byte == ']' || byte == '}') && close_container(c, byte == '}');
        c->expects = in_object(c) ? AT_KEY : AT_VALUE;
        return true;
    }
}

JsonCheckState json_check_push(JsonCheck *c, Str text, size_t *taken) {
    for (*taken = 0; *taken < text.len; ++*taken) {
        if (c->expects == AT_END) return JSON_CHECK_DONE;
        JsonCheck before = *c;
        if (c->expects == IN_NUMBER) {
            if (take_number(c, text.ptr[*taken])) continue;
            *c = before;
            if (c->number > NUMBER_LAST_WHOLE) return JSON_CHECK_BAD;
            value_ended(c);
            if (c->expects == AT_END) return JSON_CHECK_DONE;
            before = *c;
        }
        if (!take(c, text.ptr[*taken])) {
            *c = before;
            return JSON_CHECK_BAD;
        }
    }
    return c->expects == AT_END ? JSON_CHECK_DONE : JSON_CHECK_MORE;
}

bool json_check_end(const JsonCheck *c) {
    return c->expects == AT_END ||
           (c->depth == 0 && c->expects == IN_NUMBER && c->number <= NUMBER_LAST_WHOLE);
}
