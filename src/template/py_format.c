#include "template/py_format.h"

#include "base/utf8.h"
#include "text/unicode.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    NUMBER_BYTES = 512, // of a formatted number: 309 digits before the point and PRECISION_MAX after it
    PRECISION_MAX = 100,
    WIDTH_MAX = 100000,
};

// ---- repr ----

// The fewest digits (1 to 17) that read back as the same double, as "%.*e" writes them.
static int shortest_digits(double value) {
    char text[PY_FLOAT_BYTES];
    for (int digits = 1; digits < 17; digits++) {
        snprintf(text, sizeof text, "%.*e", digits - 1, value);
        if (strtod(text, NULL) == value) return digits;
    }
    return 17;
}

void py_float_repr(double value, char out[PY_FLOAT_BYTES]) {
    if (isnan(value) || isinf(value)) {
        snprintf(out, PY_FLOAT_BYTES, "%s", isnan(value) ? "nan" : value < 0 ? "-inf" : "inf");
        return;
    }
    int digits = shortest_digits(value);
    char text[PY_FLOAT_BYTES];
    snprintf(text, sizeof text, "%.*e", digits - 1, value);
    int exponent = (int)strtol(strchr(text, 'e') + 1, NULL, 10);
    if (exponent < -4 || exponent >= 16) {
        snprintf(out, PY_FLOAT_BYTES, "%s", text); // both write two digits of the exponent at least
        return;
    }
    int decimals = digits - 1 - exponent;
    snprintf(out, PY_FLOAT_BYTES, "%.*f", decimals < 1 ? 1 : decimals, value);
}

// str.isprintable: all but separators, controls, surrogates, private and unassigned characters; a space is.
static bool is_printable(uint32_t codepoint) {
    if (codepoint == ' ') return true;
    UnicodeCategory category = unicode_category(codepoint);
    return category < UNICODE_ZS;
}

static bool escape_character(Run *run, Pieces *p, Origin origin, uint32_t c, char quote) {
    if (c == (uint32_t)quote || c == '\\') return pieces_printf(run, p, origin, "\\%c", (char)c);
    if (c == '\n') return pieces_add_str(run, p, STR("\\n"), origin);
    if (c == '\r') return pieces_add_str(run, p, STR("\\r"), origin);
    if (c == '\t') return pieces_add_str(run, p, STR("\\t"), origin);
    const char *format = c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x";
    char text[12];
    snprintf(text, sizeof text, format, c);
    return pieces_printf(run, p, origin, "%s", text);
}

static bool is_plain(char c, char quote) {
    return c >= 0x20 && c < 0x7F && c != '\\' && c != quote;
}

bool py_str_repr(Run *run, Pieces *p, const Text *t) {
    bool has_single = memchr(t->ptr, '\'', t->len) != NULL, has_double = memchr(t->ptr, '"', t->len) != NULL;
    char quote = has_single && !has_double ? '"' : '\'';
    Origin origin = text_derived(t);
    run_spend(run, t->len / 4);
    Str quotes = quote == '"' ? STR("\"") : STR("'");
    if (!pieces_add_str(run, p, quotes, origin)) return false;
    uint32_t c;
    for (size_t at = 0, length; at < t->len; at += length) {
        length = text_decode(t, at, &c);
        bool plain = c != (uint32_t)quote && c != '\\' && is_printable(c);
        while (plain && at + length < t->len &&
               is_plain(t->ptr[at + length], quote)) // all that follow, at once
            length++;
        bool ok = plain ? pieces_add(run, p, text_slice(*t, at, at + length))
                        : escape_character(run, p, origin, c, quote);
        if (!ok) return false;
    }
    return pieces_add_str(run, p, quotes, origin);
}

double py_round(double value, int digits) {
    if (!isfinite(value) || digits > 300) return value;
    if (digits < -308) return copysign(0, value);
    char text[NUMBER_BYTES];
    if (digits >= 0) {
        snprintf(text, sizeof text, "%.*f", digits, value); // rounds the exact value, halves to even
        return strtod(text, NULL);
    }
    double unit = pow(10, -digits), quotient = value / unit, rounded = nearbyint(quotient);
    return rounded * unit;
}

// ---- the mini-language ----

// [[fill]align][sign][z][#][0][width][grouping][.precision][type]
typedef struct {
    Str fill;
    char align; // < > = ^, or 0
    char sign;  // + - space, or 0
    bool alternate;
    bool zero;
    int64_t width, precision; // -1: none
    char grouping;            // , _ or 0
    char type;                // 0: none
} Spec;

static bool is_align(char c) {
    return c == '<' || c == '>' || c == '=' || c == '^';
}

static bool take_number(Str s, size_t *at, int64_t *out) {
    int64_t value = 0;
    size_t from = *at;
    for (; *at < s.len && s.ptr[*at] >= '0' && s.ptr[*at] <= '9'; ++*at)
        value = value > WIDTH_MAX ? value : value * 10 + (s.ptr[*at] - '0');
    if (*at > from) *out = value;
    return *at > from;
}

static bool parse_spec(Run *run, Str s, Spec *out) {
    *out = (Spec){.fill = STR(" "), .width = -1, .precision = -1};
    uint32_t c;
    size_t at = 0, first = utf8_decode(s, &c);
    if (first && first < s.len && is_align(s.ptr[first])) {
        out->fill = str_slice(s, 0, first);
        out->align = s.ptr[first];
        at = first + 1;
    } else if (s.len && is_align(s.ptr[0])) {
        out->align = s.ptr[at++];
    }
    if (at < s.len && strchr("+- ", s.ptr[at]) && s.ptr[at]) out->sign = s.ptr[at++];
    if (at < s.len && s.ptr[at] == '#') out->alternate = ++at;
    if (at < s.len && s.ptr[at] == '0') {
        out->zero = ++at;
        if (!out->align) {
            out->align = '=';
            out->fill = STR("0");
        }
    }
    (void)take_number(s, &at, &out->width);
    if (at < s.len && (s.ptr[at] == ',' || s.ptr[at] == '_')) out->grouping = s.ptr[at++];
    if (at < s.len && s.ptr[at] == '.') {
        at++;
        if (!take_number(s, &at, &out->precision)) return run_fail(run, "Format specifier missing precision");
    }
    if (at < s.len) out->type = s.ptr[at++];
    if (at < s.len) return run_fail(run, "Invalid format specifier '%.*s'", STR_ARG(s));
    if (out->width > WIDTH_MAX ||
        out->precision > (out->type == 's' || !out->type ? WIDTH_MAX : PRECISION_MAX))
        return run_fail(run, "a format specifier's width or precision is too large");
    return true;
}

static bool put_fill(Run *run, Pieces *p, Str fill, int64_t n) {
    if (n <= 0) return true;
    char *bytes = arena_new(run->arena, char, (uint64_t)n *fill.len);
    if (!bytes) return run_full(run);
    for (int64_t i = 0; i < n; i++)
        memcpy(bytes + (size_t)i * fill.len, fill.ptr, fill.len);
    return pieces_add_str(run, p, (Str){bytes, (size_t)n * fill.len}, ORIGIN_TEMPLATE);
}

// `head` (a sign, a prefix) and `body` in a field; for align '=' the padding comes between them.
static bool put_field(Run *run, Pieces *p, const Spec *spec, Str head, Text body, char align) {
    int64_t used = (int64_t)(head.len + text_characters(&body)), left = spec->width - used;
    int64_t before = align == '>' || align == '=' ? left : align == '^' ? left / 2 : 0;
    if (left <= 0) left = before = 0;
    bool inside = align == '=';
    return (inside || put_fill(run, p, spec->fill, before)) &&
           pieces_add_str(run, p, head, ORIGIN_TEMPLATE) &&
           (!inside || put_fill(run, p, spec->fill, before)) && pieces_add(run, p, body) &&
           put_fill(run, p, spec->fill, left - before);
}

// Puts `separator` between groups of `size` digits of the integer part of a number's text.
static void group_digits(char *text, size_t text_size, char separator, size_t size) {
    size_t digits = strspn(text, "0123456789abcdefABCDEF"), groups = digits ? (digits - 1) / size : 0;
    size_t length = strlen(text);
    if (length + groups + 1 > text_size) return;
    memmove(text + digits + groups, text + digits, length - digits + 1);
    for (size_t from = digits, to = digits + groups, n = 0; from > 0; n++) {
        if (n && n % size == 0) text[--to] = separator;
        text[--to] = text[--from];
    }
}

static Str keep(Run *run, const char *text) {
    return arena_copy_str(run->arena, str_from_c(text));
}

static Str sign_of(const Spec *spec, bool negative) {
    if (negative) return STR("-");
    return spec->sign == '+' ? STR("+") : spec->sign == ' ' ? STR(" ") : STR("");
}

static void write_integer(uint64_t value, char type, char out[NUMBER_BYTES]) {
    if (type != 'b') {
        const char *format = type == 'x' ? "%llx" : type == 'X' ? "%llX" : type == 'o' ? "%llo" : "%llu";
        char text[32];
        snprintf(text, sizeof text, format, (unsigned long long)value);
        snprintf(out, NUMBER_BYTES, "%s", text);
        return;
    }
    int n = 0;
    for (int bit = 63; bit >= 0; bit--) {
        if (n || value >> bit & 1 || bit == 0) out[n++] = (char)('0' + (value >> bit & 1));
    }
    out[n] = 0;
}

static bool format_integer(Run *run, Pieces *p, const Spec *spec, int64_t value) {
    char text[NUMBER_BYTES], head[4];
    if (spec->precision >= 0) return run_fail(run, "Precision not allowed in integer format specifier");
    char type = spec->type == 'n' || !spec->type ? 'd' : spec->type;
    uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    write_integer(magnitude, type, text);
    if (spec->grouping) group_digits(text, sizeof text, spec->grouping, type == 'd' ? 3 : 4);
    const char *prefix = spec->alternate && type != 'd' ? (const char[]){'0', type, 0} : "";
    snprintf(head, sizeof head, "%.*s%s", STR_ARG(sign_of(spec, value < 0)), prefix);
    Str kept_head = keep(run, head), kept = keep(run, text);
    if (!kept_head.ptr || !kept.ptr) return run_full(run);
    return put_field(run, p, spec, kept_head, text_of(kept, ORIGIN_TEMPLATE),
                     spec->align ? spec->align : '>');
}

// The digits of |value|, without a sign.
static void write_float(double value, const Spec *spec, char out[NUMBER_BYTES]) {
    char type = spec->type;
    int precision = (int)spec->precision;
    double magnitude = fabs(value);
    if (isnan(value) || isinf(value)) {
        bool upper = type == 'E' || type == 'F' || type == 'G';
        snprintf(out, NUMBER_BYTES, "%s%s",
                 isnan(value) ? (upper ? "NAN" : "nan")
                 : upper      ? "INF"
                              : "inf",
                 type == '%' ? "%" : "");
        return;
    }
    if (!type && precision < 0) {
        py_float_repr(magnitude, out);
        return;
    }
    if (!type || type == 'n') type = 'g';
    if (precision < 0) precision = 6;
    if (type == '%') {
        snprintf(out, NUMBER_BYTES, "%.*f%%", precision, magnitude * 100);
        return;
    }
    char format[8];
    snprintf(format, sizeof format, "%%%s.*%c", spec->alternate ? "#" : "", type);
    char text[NUMBER_BYTES];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(text, sizeof text, format, precision == 0 && type == 'g' ? 1 : precision, magnitude);
#pragma GCC diagnostic pop
    // Without a type, a number is one at sight: 1e+05 stays, 10 becomes 10.0.
    bool bare = !spec->type && !strpbrk(text, ".e");
    snprintf(out, NUMBER_BYTES, "%.500s%s", text, bare ? ".0" : "");
}

static bool format_float(Run *run, Pieces *p, const Spec *spec, double value) {
    char text[NUMBER_BYTES];
    write_float(value, spec, text);
    if (spec->grouping) group_digits(text, sizeof text, spec->grouping, 3);
    Str kept = keep(run, text);
    if (!kept.ptr) return run_full(run);
    Str sign = sign_of(spec, signbit(value) && !isnan(value));
    return put_field(run, p, spec, sign, text_of(kept, ORIGIN_TEMPLATE), spec->align ? spec->align : '>');
}

static bool format_text(Run *run, Pieces *p, const Spec *spec, Text text) {
    if (spec->sign || spec->grouping || spec->alternate || spec->align == '=')
        return run_fail(run, "a format specifier for numbers was given to a string");
    if (spec->precision >= 0) text = text_slice(text, 0, text_offset(&text, (size_t)spec->precision));
    return put_field(run, p, spec, STR(""), text, spec->align ? spec->align : '<');
}

bool py_format_value(Run *run, Pieces *p, Value value, Str s) {
    Spec spec;
    if (s.len == 0) return value_print(run, p, value);
    if (!parse_spec(run, s, &spec)) return false;
    char type = spec.type ? spec.type : value.kind == V_STRING ? 's' : value_is_integer(value) ? 'd' : 0;
    bool whole = strchr("bdoxXn", type) && type, real = strchr("eEfFgG%n", type) && type;
    if (value.kind == V_STRING && type == 's') return format_text(run, p, &spec, *value.text);
    if (value_is_integer(value) && whole) {
        spec.type = type;
        return format_integer(run, p, &spec, value_integer(value));
    }
    if (value_is_number(value) && (real || (value.kind == V_FLOAT && !type)))
        return format_float(run, p, &spec, value_number(value));
    return run_fail(run, "the format '%.*s' is not for a %s", STR_ARG(s), value_type_name(value));
}

// ---- the % operator ----

typedef struct {
    Run *run;
    Pieces *out;
    const Text *format;
    size_t at;
    Value values;
    size_t used; // of a tuple's
} Percent;

static bool next_value(Percent *f, Value *out) {
    if (f->values.kind == V_TUPLE) {
        if (f->used >= f->values.list->count)
            return run_fail(f->run, "not enough arguments for format string");
        *out = f->values.list->items[f->used++];
        return true;
    }
    if (f->used++) return run_fail(f->run, "not enough arguments for format string");
    *out = f->values;
    return true;
}

// A width or precision: digits, or * for the next value.
static bool percent_number(Percent *f, int64_t *out) {
    Str s = text_str(f->format);
    if (f->at < s.len && s.ptr[f->at] == '*') {
        Value v;
        f->at++;
        if (!next_value(f, &v)) return false;
        if (!value_is_integer(v)) return run_fail(f->run, "* wants int");
        *out = value_integer(v);
    } else {
        (void)take_number(s, &f->at, out);
    }
    return *out <= WIDTH_MAX || run_fail(f->run, "a format's width or precision is too large");
}

// %(name): looks the value up.
static bool percent_name(Percent *f, Value *out, bool *named) {
    const Text *t = f->format;
    *named = f->at < t->len && t->ptr[f->at] == '(';
    if (!*named) return true;
    const char *end = memchr(t->ptr + f->at, ')', t->len - f->at);
    if (!end || f->values.kind != V_DICT) return run_fail(f->run, "format requires a mapping");
    size_t to = (size_t)(end - t->ptr);
    const Value *found = dict_get_str(f->run, f->values.dict, (Str){t->ptr + f->at + 1, to - f->at - 1});
    if (!found) return run_fail(f->run, "a format names a key that is not there");
    *out = *found;
    f->at = to + 1;
    f->used = 1;
    return true;
}

static bool percent_integer(Percent *f, Spec *spec, Value v, char type) {
    if (!value_is_number(v)) return run_fail(f->run, "%%%c format: a number is required", type);
    double real = value_number(v);
    if (v.kind == V_FLOAT && (type == 'x' || type == 'X' || type == 'o' || !(fabs(real) < 9e18)))
        return run_fail(f->run, "%%%c format: an integer is required", type);
    int64_t whole = v.kind == V_FLOAT ? (int64_t)real : value_integer(v);
    spec->type = type == 'i' || type == 'u' ? 'd' : type;
    char digits[NUMBER_BYTES];
    uint64_t magnitude = whole < 0 ? 0 - (uint64_t)whole : (uint64_t)whole;
    write_integer(magnitude, spec->type, digits);
    Pieces body = {0};
    int64_t zeros = spec->precision - (int64_t)strlen(digits);
    Text text;
    bool ok = (!spec->alternate || spec->type == 'd' ||
               pieces_printf(f->run, &body, ORIGIN_TEMPLATE, "0%c", spec->type)) &&
              put_fill(f->run, &body, STR("0"), zeros) &&
              pieces_printf(f->run, &body, ORIGIN_TEMPLATE, "%s", digits) &&
              pieces_join(f->run, &body, &text);
    return ok && put_field(f->run, f->out, spec, sign_of(spec, whole < 0), text, spec->align);
}

static bool percent_value(Percent *f, Spec *spec, Value v, char type) {
    if (strchr("diuxXo", type)) return percent_integer(f, spec, v, type);
    if (strchr("eEfFgG", type)) {
        if (!value_is_number(v)) return run_fail(f->run, "must be real number, not %s", value_type_name(v));
        spec->type = type;
        return format_float(f->run, f->out, spec, value_number(v));
    }
    Pieces p = {0};
    Text text;
    bool ok = type == 's' ? value_print(f->run, &p, v) : value_repr(f->run, &p, v);
    if (!ok || !pieces_join(f->run, &p, &text)) return false;
    if (spec->precision >= 0) text = text_slice(text, 0, text_offset(&text, (size_t)spec->precision));
    spec->fill = STR(" ");
    return put_field(f->run, f->out, spec, STR(""), text, spec->align == '<' ? '<' : '>');
}

// What comes behind a %.
static bool percent_directive(Percent *f) {
    const Text *t = f->format;
    Spec spec = {.fill = STR(" "), .align = '>', .width = -1, .precision = -1};
    Value v = value_none();
    bool named;
    if (!percent_name(f, &v, &named)) return false;
    for (; f->at < t->len && strchr("#0- +", t->ptr[f->at]) && t->ptr[f->at]; f->at++) {
        char c = t->ptr[f->at];
        if (c == '#') spec.alternate = true;
        if (c == '0') spec.zero = true;
        if (c == '-') spec.align = '<';
        if (c == '+' || (c == ' ' && !spec.sign)) spec.sign = c;
    }
    if (!percent_number(f, &spec.width)) return false;
    if (f->at < t->len && t->ptr[f->at] == '.') {
        f->at++;
        spec.precision = 0;
        if (!percent_number(f, &spec.precision)) return false;
    }
    while (f->at < t->len && strchr("hlL", t->ptr[f->at]) && t->ptr[f->at])
        f->at++;
    if (f->at == t->len) return run_fail(f->run, "incomplete format");
    char type = t->ptr[f->at++];
    if (type == '%') return pieces_add(f->run, f->out, text_slice(*t, f->at - 1, f->at));
    if (!strchr("diuxXoeEfFgGsra", type) || !type)
        return run_fail(f->run, "unsupported format character '%c'", type);
    if (strchr("eEfFgG", type) && spec.precision > PRECISION_MAX)
        return run_fail(f->run, "a format's precision is too large");
    if (spec.zero && spec.align == '>') {
        spec.align = '=';
        spec.fill = STR("0");
    }
    return (named || next_value(f, &v)) && percent_value(f, &spec, v, type);
}

bool py_format_percent(Run *run, const Text *format, Value values, Value *out) {
    run_spend(run, format->len / 8);
    Pieces p = {0};
    Percent f = {.run = run, .out = &p, .format = format, .values = values};
    while (f.at < format->len) {
        const char *next = memchr(format->ptr + f.at, '%', format->len - f.at);
        size_t end = next ? (size_t)(next - format->ptr) : format->len;
        if (!pieces_add(run, &p, text_slice(*format, f.at, end))) return false;
        f.at = end + 1;
        if (next && !percent_directive(&f)) return false;
    }
    bool all = values.kind == V_TUPLE ? f.used == values.list->count
                                      : f.used || values.kind == V_DICT || values.kind == V_LIST ||
                                            values.kind == V_RANGE || values.kind == V_UNDEFINED;
    if (!all) return run_fail(run, "not all arguments converted during string formatting");
    return pieces_value(run, &p, out);
}

// ---- str.format ----

typedef struct {
    Run *run;
    const List *args;
    const Dict *kwargs;
    size_t next; // automatic numbering
    bool automatic, manual;
    int depth;
} Braces;

static bool braces_format(Braces *b, Pieces *out, Text format);

// The first part of a field's name: a number, a name, or nothing for the next argument.
static bool field_value(Braces *b, Str name, Value *out) {
    uint64_t index;
    bool numbered = str_parse_u64(name, &index);
    if (name.len == 0 || numbered) {
        b->automatic |= name.len == 0;
        b->manual |= numbered;
        if (b->automatic && b->manual)
            return run_fail(b->run, "cannot switch between automatic and manual field numbering");
        if (!numbered) index = b->next++;
        if (index >= b->args->count)
            return run_fail(b->run, "Replacement index %llu out of range", (unsigned long long)index);
        *out = b->args->items[index];
        return true;
    }
    const Value *found = dict_get_str(b->run, b->kwargs, name);
    if (!found) return run_fail(b->run, "format names '%.*s', which is not given", STR_ARG(name));
    *out = *found;
    return true;
}

// name[.attribute | [index]]…
static bool field_path(Braces *b, Str path, Value *out) {
    size_t end = 0;
    while (end < path.len && path.ptr[end] != '.' && path.ptr[end] != '[')
        end++;
    if (!field_value(b, str_slice(path, 0, end), out)) return false;
    while (end < path.len) {
        if (path.ptr[end] != '[')
            return run_fail(b->run, "attributes in a format's fields are not supported");
        size_t from = ++end;
        while (end < path.len && path.ptr[end] != ']')
            end++;
        if (end == path.len) return run_fail(b->run, "expected '}' before end of string");
        Str key = str_slice(path, from, end++);
        uint64_t index;
        Value k;
        if (str_parse_u64(key, &index)) k = value_int((int64_t)min_u64(index, INT64_MAX));
        else if (!value_str(b->run, key, ORIGIN_TEMPLATE, &k)) return false;
        if (!value_getitem(b->run, *out, k, out)) return false;
        if (out->kind == V_UNDEFINED)
            return run_fail(b->run, "a format's field names an item that is not there");
    }
    return true;
}

// name[!conversion][:spec], between braces.
static bool put_replacement(Braces *b, Pieces *out, Text field) {
    Str s = text_str(&field);
    size_t end = 0;
    while (end < s.len && s.ptr[end] != '!' && s.ptr[end] != ':')
        end++;
    Value v;
    if (!field_path(b, str_slice(s, 0, end), &v)) return false;
    if (end < s.len && s.ptr[end] == '!') {
        char conversion = end + 1 < s.len ? s.ptr[end + 1] : 0;
        Pieces p = {0};
        bool ok = conversion == 's'   ? value_print(b->run, &p, v)
                  : conversion == 'r' ? value_repr(b->run, &p, v)
                                      : run_fail(b->run, "Unknown conversion specifier");
        if (!ok || !pieces_value(b->run, &p, &v)) return false;
        end += 2;
        if (end < s.len && s.ptr[end] != ':')
            return run_fail(b->run, "expected ':' after conversion specifier");
    }
    Pieces spec = {0};
    Text text;
    if (end < s.len && !braces_format(b, &spec, text_slice(field, end + 1, s.len))) return false;
    return pieces_join(b->run, &spec, &text) && py_format_value(b->run, out, v, text_str(&text));
}

static bool braces_format(Braces *b, Pieces *out, Text t) {
    if (++b->depth > 2) return run_fail(b->run, "Max string recursion exceeded");
    for (size_t at = 0, from = 0; at < t.len; from = at) {
        while (at < t.len && t.ptr[at] != '{' && t.ptr[at] != '}')
            at++;
        if (!pieces_add(b->run, out, text_slice(t, from, at))) return false;
        if (at == t.len) break;
        if (at + 1 < t.len && t.ptr[at + 1] == t.ptr[at]) {
            if (!pieces_add(b->run, out, text_slice(t, at, at + 1))) return false;
            at += 2;
            continue;
        }
        if (t.ptr[at] == '}') return run_fail(b->run, "Single '}' encountered in format string");
        size_t open = ++at, nested = 1;
        for (; at < t.len && nested; at++)
            nested += t.ptr[at] == '{' ? 1 : t.ptr[at] == '}' ? (size_t)-1 : 0;
        if (nested) return run_fail(b->run, "Single '{' encountered in format string");
        if (!put_replacement(b, out, text_slice(t, open, at - 1))) return false;
    }
    b->depth--;
    return true;
}

bool py_format_braces(Run *run, const Text *format, const List *args, const Dict *kwargs, Value *out) {
    run_spend(run, format->len / 8);
    Pieces p = {0};
    Braces b = {.run = run, .args = args, .kwargs = kwargs};
    return braces_format(&b, &p, *format) && pieces_value(run, &p, out);
}
