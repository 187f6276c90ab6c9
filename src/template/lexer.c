#include "template/lexer.h"

#include "base/utf8.h"
#include "template/template.h"

#include <stdlib.h>

typedef struct {
    Str source; // line ends are "\n"
    size_t at;
    uint32_t line;
    Token *tokens;
    size_t count, capacity;
    Arena *arena;
    Error *err;
    // What the tag before the text at hand asks of it.
    bool strip_next;   // all white space in front goes ("-")
    bool trim_newline; // one line end goes
} Lexer;

static bool lex_fail(Lexer *x, const char *what) {
    return error_set(x->err, ERR_UNSUPPORTED, "line %u: %s", x->line, what);
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool put(Lexer *x, Token token) {
    if (x->count == x->capacity)
        return error_set(x->err, ERR_NO_MEMORY, "the template's tokens do not fit their memory");
    token.line = token.line ? token.line : x->line;
    x->tokens[x->count++] = token;
    return true;
}

static void advance(Lexer *x, size_t to) {
    for (; x->at < to; x->at++)
        x->line += x->source.ptr[x->at] == '\n';
}

static bool at_text(const Lexer *x, size_t at, Str text) {
    return str_starts_with(str_slice(x->source, at, x->source.len), text);
}

// ---- strings and numbers ----

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool take_hex(Str s, size_t *at, int digits, uint32_t *out) {
    *out = 0;
    for (int i = 0; i < digits; i++, ++*at) {
        int digit = *at < s.len ? hex_digit(s.ptr[*at]) : -1;
        if (digit < 0) return false;
        *out = *out << 4 | (uint32_t)digit;
    }
    return true;
}

// The character of an escape whose letter is at *at. Returns the number of bytes written, or -1.
static int unescape(Str s, size_t *at, char out[4]) {
    static const char letters[] = "abfnrtv\\'\"", values[] = "\a\b\f\n\r\t\v\\'\"";
    char c = s.ptr[(*at)++];
    const char *found = strchr(letters, c);
    if (c == '\n') return 0; // a continued line
    if (found && c) {
        out[0] = values[found - letters];
        return 1;
    }
    uint32_t codepoint = 0;
    if (c == 'x' || c == 'u' || c == 'U') {
        int digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        bool ok = take_hex(s, at, digits, &codepoint) && codepoint <= 0x10FFFF &&
                  (codepoint < 0xD800 || codepoint > 0xDFFF);
        return ok ? (int)utf8_encode(codepoint, out) : -1;
    }
    if (c >= '0' && c <= '7') {
        codepoint = (uint32_t)(c - '0');
        for (int i = 0; i < 2 && *at < s.len && s.ptr[*at] >= '0' && s.ptr[*at] <= '7'; i++)
            codepoint = codepoint * 8 + (uint32_t)(s.ptr[(*at)++] - '0');
        return (int)utf8_encode(codepoint, out);
    }
    if (c == 'N') return -1; // names of characters
    out[0] = '\\';           // an unknown escape stays as it is
    out[1] = c;
    return 2;
}

static bool lex_string(Lexer *x) {
    char quote = x->source.ptr[x->at];
    size_t end = x->at + 1;
    while (end < x->source.len && x->source.ptr[end] != quote)
        end += x->source.ptr[end] == '\\' ? 2 : 1;
    if (end >= x->source.len) return lex_fail(x, "a string has no end");
    Str body = str_slice(x->source, x->at + 1, end);
    Token token = {.kind = T_STRING, .text = body, .line = x->line};
    if (memchr(body.ptr, '\\', body.len)) {
        char *bytes = arena_new(x->arena, char, body.len + 4);
        if (!bytes) return error_set(x->err, ERR_NO_MEMORY, "the template's strings do not fit their memory");
        size_t size = 0;
        for (size_t at = 0; at < body.len;) {
            if (body.ptr[at] != '\\') {
                bytes[size++] = body.ptr[at++];
                continue;
            }
            at++;
            int n = unescape(body, &at, bytes + size);
            if (n < 0) return lex_fail(x, "a string holds an escape that is not known");
            size += (size_t)n;
        }
        token.text = (Str){bytes, size};
    }
    advance(x, end + 1);
    return put(x, token);
}

static bool is_digit_of(char c, int base) {
    int digit = hex_digit(c);
    return digit >= 0 && digit < base;
}

// Digits, with single underscores between them.
static size_t skip_digits(Str s, size_t at, int base) {
    while (at < s.len && (is_digit_of(s.ptr[at], base) ||
                          (s.ptr[at] == '_' && at + 1 < s.len && is_digit_of(s.ptr[at + 1], base)))) {
        at++;
    }
    return at;
}

static bool copy_digits(Lexer *x, Str s, char *out, size_t out_size) {
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '_') continue;
        if (n + 1 >= out_size) return lex_fail(x, "a number is too long");
        out[n++] = s.ptr[i];
    }
    out[n] = 0;
    return true;
}

static bool lex_integer(Lexer *x, size_t from, size_t end, int base) {
    char digits[80];
    if (!copy_digits(x, str_slice(x->source, from, end), digits, sizeof digits)) return false;
    uint64_t value = 0;
    for (const char *c = digits; *c; c++) {
        if (!checked_mul(value, (uint64_t)base, &value) ||
            !checked_add(value, (uint64_t)hex_digit(*c), &value) || value > INT64_MAX) {
            return lex_fail(x, "a number is too large");
        }
    }
    advance(x, end);
    return put(x, (Token){.kind = T_INTEGER, .integer = (int64_t)value});
}

static bool lex_number(Lexer *x) {
    Str s = x->source;
    size_t at = x->at;
    if (s.ptr[at] == '0' && at + 1 < s.len) {
        char kind = (char)(s.ptr[at + 1] | 0x20);
        int base = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
        size_t end = base ? skip_digits(s, at + 2, base) : 0;
        if (base && end > at + 2) return lex_integer(x, at + 2, end, base);
    }
    size_t end = skip_digits(s, at, 10), whole = end;
    if (end + 1 < s.len && s.ptr[end] == '.' && is_digit_of(s.ptr[end + 1], 10))
        end = skip_digits(s, end + 1, 10);
    if (end < s.len && (s.ptr[end] | 0x20) == 'e') {
        size_t exponent = end + 1;
        if (exponent < s.len && (s.ptr[exponent] == '+' || s.ptr[exponent] == '-')) exponent++;
        if (exponent < s.len && is_digit_of(s.ptr[exponent], 10)) end = skip_digits(s, exponent, 10);
    }
    if (end == whole) return lex_integer(x, at, end, 10);
    char digits[400];
    if (!copy_digits(x, str_slice(s, at, end), digits, sizeof digits)) return false;
    advance(x, end);
    return put(x, (Token){.kind = T_FLOAT, .real = strtod(digits, NULL)});
}

// ---- what is in a tag ----

static bool is_name_start(char c) {
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (uint8_t)c >= 0x80;
}

static bool lex_name(Lexer *x) {
    size_t end = x->at;
    while (end < x->source.len && (is_name_start(x->source.ptr[end]) || is_digit_of(x->source.ptr[end], 10)))
        end++;
    Token token = {.kind = T_NAME, .text = str_slice(x->source, x->at, end)};
    advance(x, end);
    return put(x, token);
}

static bool lex_operator(Lexer *x) {
    static const char *const operators[] = {"**", "//", "==", "!=", ">=", "<=", "+", "-", "*",
                                            "/",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                            ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    for (size_t i = 0; i < COUNT_OF(operators); i++) {
        Str text = str_from_c(operators[i]);
        if (!at_text(x, x->at, text)) continue;
        advance(x, x->at + text.len);
        return put(x, (Token){.kind = T_OPERATOR, .text = text});
    }
    return lex_fail(x, "a character that no expression has");
}

// Whether the tag ends here ("-%}", "}}", …); then its end is taken.
static bool lex_tag_end(Lexer *x, bool is_block, bool *ended) {
    Str end = is_block ? STR("%}") : STR("}}");
    char sign = x->source.ptr[x->at];
    bool is_signed = sign == '-' || (sign == '+' && is_block);
    size_t at = x->at + is_signed;
    *ended = at_text(x, at, end);
    if (!*ended) return true;
    x->strip_next = sign == '-';
    x->trim_newline = is_block && !is_signed;
    Token token = {.kind = is_block ? T_BLOCK_END : T_VARIABLE_END};
    if (!put(x, token)) return false;
    advance(x, at + 2);
    return true;
}

// Up to the tag's end. Brackets are counted, so that "}}" may close two dictionaries.
static bool lex_tag(Lexer *x, bool is_block) {
    char open[TEMPLATE_DEPTH_MAX];
    size_t depth = 0;
    for (;;) {
        while (x->at < x->source.len && is_space(x->source.ptr[x->at]))
            advance(x, x->at + 1);
        if (x->at >= x->source.len) return lex_fail(x, "a tag has no end");
        bool ended = false;
        if (depth == 0 && !lex_tag_end(x, is_block, &ended)) return false;
        if (ended) return true;
        char c = x->source.ptr[x->at];
        bool ok = c == '"' || c == '\'' ? lex_string(x)
                  : is_digit_of(c, 10)  ? lex_number(x)
                  : is_name_start(c)    ? lex_name(x)
                                        : lex_operator(x);
        if (!ok) return false;
        if (c == '(' || c == '[' || c == '{') {
            if (depth == COUNT_OF(open)) return lex_fail(x, "brackets are nested too deep");
            open[depth++] = c == '(' ? ')' : c == '[' ? ']' : '}';
        } else if ((c == ')' || c == ']' || c == '}') && (depth == 0 || open[--depth] != c)) {
            return lex_fail(x, "a bracket closes what is not open");
        }
    }
}

// ---- text between tags ----

// Drops what the tag before asked for.
static void begin_data(Lexer *x) {
    if (x->strip_next) {
        while (x->at < x->source.len && is_space(x->source.ptr[x->at]))
            advance(x, x->at + 1);
    } else if (x->trim_newline && x->at < x->source.len && x->source.ptr[x->at] == '\n') {
        advance(x, x->at + 1);
    }
    x->strip_next = x->trim_newline = false;
}

// The next "{{", "{%" or "{#" at or behind x->at; the source's length where there is none.
static size_t find_tag(const Lexer *x) {
    for (size_t at = x->at; at + 1 < x->source.len; at++) {
        char next = x->source.ptr[at + 1];
        if (x->source.ptr[at] == '{' && (next == '{' || next == '%' || next == '#')) return at;
    }
    return x->source.len;
}

// The text up to `tag`, less what the tag's sign or lstrip_blocks takes off its end.
static bool put_data(Lexer *x, size_t tag) {
    size_t end = tag;
    char kind = tag + 1 < x->source.len ? x->source.ptr[tag + 1] : 0;
    char sign = tag + 2 < x->source.len ? x->source.ptr[tag + 2] : 0;
    if (kind && sign == '-') {
        while (end > x->at && is_space(x->source.ptr[end - 1]))
            end--;
    } else if (kind && kind != '{' && sign != '+') {
        size_t from = end;
        while (from > x->at && x->source.ptr[from - 1] != '\n' && is_space(x->source.ptr[from - 1]))
            from--;
        // The line must begin in this text, or where the tag before it dropped its end.
        bool line_begins =
            from > x->at ? x->source.ptr[from - 1] == '\n' : from == 0 || x->source.ptr[from - 1] == '\n';
        if (line_begins) end = from;
    }
    Token token = {.kind = T_DATA, .text = str_slice(x->source, x->at, end)};
    if (token.text.len && !put(x, token)) return false;
    advance(x, tag);
    return true;
}

static bool lex_comment(Lexer *x) {
    size_t from = x->at + 2;
    const char *found =
        from <= x->source.len ? memmem(x->source.ptr + from, x->source.len - from, "#}", 2) : NULL;
    if (!found) return lex_fail(x, "a comment has no end");
    size_t end = (size_t)(found - x->source.ptr);
    char sign = end > from ? x->source.ptr[end - 1] : 0;
    x->strip_next = sign == '-';
    x->trim_newline = sign != '-' && sign != '+';
    advance(x, end + 2);
    return true;
}

// The end of "{% word %}" at `at`, with signs and white space; 0 where something else is there.
static size_t match_word_tag(const Lexer *x, size_t at, Str word, char *sign_in, char *sign_out) {
    Str s = x->source;
    if (!at_text(x, at, STR("{%"))) return 0;
    at += 2;
    *sign_in = at < s.len && (s.ptr[at] == '-' || s.ptr[at] == '+') ? s.ptr[at++] : 0;
    while (at < s.len && is_space(s.ptr[at]))
        at++;
    if (!at_text(x, at, word)) return 0;
    at += word.len;
    while (at < s.len && is_space(s.ptr[at]))
        at++;
    *sign_out = at < s.len && (s.ptr[at] == '-' || s.ptr[at] == '+') ? s.ptr[at++] : 0;
    return at_text(x, at, STR("%}")) ? at + 2 : 0;
}

// "{% raw %}": what is between it and "{% endraw %}" is text.
static bool lex_raw(Lexer *x, size_t body, char sign_out) {
    advance(x, body);
    x->strip_next = sign_out == '-';
    begin_data(x);
    for (size_t at = x->at; at < x->source.len; at++) {
        char sign_in, sign_end;
        size_t end = x->source.ptr[at] == '{' ? match_word_tag(x, at, STR("endraw"), &sign_in, &sign_end) : 0;
        if (!end) continue;
        if (!put_data(x, at)) return false;
        x->strip_next = sign_end == '-';
        x->trim_newline = !sign_end;
        advance(x, end);
        return true;
    }
    return lex_fail(x, "a raw block has no end");
}

static bool lex_one(Lexer *x) {
    begin_data(x);
    size_t tag = find_tag(x);
    if (!put_data(x, tag)) return false;
    if (tag == x->source.len) return true;
    char kind = x->source.ptr[tag + 1], sign_in, sign_out;
    if (kind == '#') return lex_comment(x);
    size_t raw = kind == '%' ? match_word_tag(x, tag, STR("raw"), &sign_in, &sign_out) : 0;
    if (raw) return lex_raw(x, raw, sign_out);
    bool is_block = kind == '%';
    if (!put(x, (Token){.kind = is_block ? T_BLOCK_BEGIN : T_VARIABLE_BEGIN})) return false;
    char sign = tag + 2 < x->source.len ? x->source.ptr[tag + 2] : 0;
    advance(x, tag + 2 + (sign == '-' || sign == '+'));
    return lex_tag(x, is_block);
}

// With "\n" for every line end, and without the last one.
static bool normalize(Str source, Arena *arena, Str *out, Error *err) {
    char *bytes = arena_new(arena, char, source.len + 1);
    if (!bytes) return error_set(err, ERR_NO_MEMORY, "the template does not fit its memory");
    size_t size = 0;
    for (size_t i = 0; i < source.len; i++) {
        char c = source.ptr[i];
        if (c == '\r') {
            if (i + 1 < source.len && source.ptr[i + 1] == '\n') i++;
            c = '\n';
        }
        bytes[size++] = c;
    }
    if (size && bytes[size - 1] == '\n') size--;
    *out = (Str){bytes, size};
    return true;
}

bool template_lex(Str source, Arena *arena, const Token **out, Error *err) {
    if (source.len > TEMPLATE_SOURCE_BYTES_MAX) {
        return error_set(err, ERR_UNSUPPORTED, "the template has %zu bytes, at most %d are read", source.len,
                         TEMPLATE_SOURCE_BYTES_MAX);
    }
    if (utf8_valid_prefix(source) != source.len)
        return error_set(err, ERR_UNSUPPORTED, "the template is not UTF-8");
    Lexer x = {.line = 1, .arena = arena, .err = err};
    if (!normalize(source, arena, &x.source, err)) return false;
    x.capacity = x.source.len + 2; // each token takes a byte at least, but for the last
    x.tokens = arena_new(arena, Token, x.capacity);
    if (!x.tokens) return error_set(err, ERR_NO_MEMORY, "the template's tokens do not fit their memory");
    while (x.at < x.source.len) {
        if (!lex_one(&x)) return false;
    }
    *out = x.tokens;
    return put(&x, (Token){.kind = T_EOF});
}
