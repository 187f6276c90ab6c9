#include "grammar/grammar_reader.h"

#include "base/hash.h"
#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>

bool reader_init(Reader *r, const char *what, Str text, GrammarBuilder *b, LangMaker *maker, Arena scratch,
                 Error *err) {
    *r = (Reader){.what = what, .text = text, .b = b, .maker = maker, .arena = scratch, .err = err};
    if (text.len > GRAMMAR_TEXT_BYTES_MAX)
        return error_set(err, ERR_TOO_LARGE, "a %s grammar of %zu bytes is too long: at most %d", what,
                         text.len, GRAMMAR_TEXT_BYTES_MAX);
    size_t valid = utf8_valid_prefix(text);
    if (valid < text.len) return reader_fail_at(r, valid, "invalid UTF-8");
    // A name and what is around it are two bytes at least, and so is a part of a sequence with its blank.
    r->parts_max = (uint32_t)text.len + READER_SPARE_PARTS;
    r->table_size = 64;
    while (r->table_size < text.len)
        r->table_size *= 2;
    r->names = arena_new_dirty(&r->arena, ReaderName, text.len / 2 + READER_SPARE_PARTS);
    r->table = arena_new(&r->arena, uint32_t, r->table_size);
    r->parts = arena_new_dirty(&r->arena, GrammarNode, r->parts_max);
    if (r->names && r->table && r->parts) return true;
    return error_set(err, ERR_NO_MEMORY, "no memory to read a grammar of %zu bytes", text.len);
}

bool reader_fail_at(Reader *r, size_t at, const char *format, ...) {
    char what[ERROR_MESSAGE_BYTES / 2];
    uint32_t line = 1;
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    for (size_t i = 0; i < at && i < r->text.len; i++)
        line += r->text.ptr[i] == '\n';
    return error_set_at(r->err, ERR_INVALID_REQUEST, at, "%s grammar, line %u: %s", r->what, line, what);
}

bool reader_take(Reader *r, const char *text) {
    Str wanted = str_from_c(text);
    if (!str_starts_with(str_slice(r->text, r->at, r->text.len), wanted)) return false;
    r->at += wanted.len;
    return true;
}

bool reader_number(Reader *r, uint32_t *out) {
    size_t from = r->at;
    uint32_t value = 0;
    for (char c; c = reader_peek(r), c >= '0' && c <= '9'; r->at++) {
        value = value * 10 + (uint32_t)(c - '0');
        if (value > GRAMMAR_COUNT_MAX) return reader_fail_at(r, from, "a number above %d", GRAMMAR_COUNT_MAX);
    }
    *out = value;
    return r->at > from || reader_fail(r, "a number is missing");
}

static bool reader_hex(Reader *r, int digits, uint32_t *out) {
    size_t from = r->at;
    *out = 0;
    for (int i = 0; i < digits; i++, r->at++) {
        char c = reader_peek(r), lower = (char)(c | 0x20);
        uint32_t digit = c >= '0' && c <= '9' ? (uint32_t)(c - '0') : (uint32_t)(lower - 'a' + 10);
        if (!(c >= '0' && c <= '9') && !(lower >= 'a' && lower <= 'f'))
            return reader_fail_at(r, from, "an escape needs %d hexadecimal digits", digits);
        *out = *out << 4 | digit;
    }
    if (*out <= 0x10FFFF && !(*out >= 0xD800 && *out <= 0xDFFF)) return true;
    return reader_fail_at(r, from, "%X is no character", *out);
}

bool reader_character(Reader *r, const char *others, uint32_t *out) {
    if (reader_at_end(r)) return reader_fail(r, "the grammar ends too early");
    if (reader_peek(r) != '\\') {
        r->at += utf8_decode(str_slice(r->text, r->at, r->text.len), out); // valid: reader_init
        return true;
    }
    r->at++;
    if (reader_at_end(r)) return reader_fail(r, "the grammar ends too early");
    char c = r->text.ptr[r->at++];
    switch (c) {
    case 'x': return reader_hex(r, 2, out);
    case 'u': return reader_hex(r, 4, out);
    case 'U': return reader_hex(r, 8, out);
    case 't': *out = '\t'; return true;
    case 'r': *out = '\r'; return true;
    case 'n': *out = '\n'; return true;
    default: break;
    }
    *out = (uint8_t)c;
    return (c && strchr(others, c)) || reader_fail_at(r, r->at - 1, "an unknown escape");
}

// ---- names ----

ReaderName *reader_name(Reader *r, Str name) {
    uint32_t at = (uint32_t)hash_bytes(name.ptr, name.len) & (r->table_size - 1);
    for (; r->table[at]; at = (at + 1) & (r->table_size - 1)) {
        ReaderName *known = &r->names[r->table[at] - 1];
        if (str_eq(known->name, name)) return known;
    }
    ReaderName *added = &r->names[r->n_names++];
    *added = (ReaderName){.name = name, .rule = grammar_add_rule(r->b, name), .used_at = r->at};
    r->table[at] = r->n_names;
    return added;
}

bool reader_set(Reader *r, ReaderName *name, size_t at) {
    if (name->is_set) return reader_fail_at(r, at, "the rule \"%.*s\" is there already", STR_ARG(name->name));
    name->is_set = true;
    return true;
}

bool reader_check_names(Reader *r) {
    for (uint32_t i = 0; i < r->n_names; i++) {
        const ReaderName *n = &r->names[i];
        if (!n->is_set)
            return reader_fail_at(r, n->used_at, "the rule \"%.*s\" is missing", STR_ARG(n->name));
    }
    return true;
}

// ---- parts ----

bool reader_push(Reader *r, GrammarNode part) {
    if (r->n_parts == r->parts_max) return reader_fail(r, "too many parts");
    r->parts[r->n_parts++] = part;
    return true;
}

GrammarNode reader_pop(Reader *r, uint32_t from, bool sequence) {
    uint32_t count = r->n_parts - from;
    r->n_parts = from;
    return sequence ? grammar_add_sequence(r->b, r->parts + from, count)
                    : grammar_add_choice(r->b, r->parts + from, count);
}

// ---- leaves ----

static bool reader_leaf(Reader *r, const Rx *rx, uint32_t root, bool negated, GrammarNode *out) {
    static const RxRange everything = {0, 0x10FFFF};
    Lang lang, all;
    Dfa *dfa = arena_new(r->maker->keep, Dfa, 1);
    if (!dfa) return error_set(r->err, ERR_NO_MEMORY, "no memory to read a grammar");
    if (!rx_compile(rx, root, r->maker, &lang, r->err)) return false;
    if (negated) {
        Rx any = rx_begin(&r->arena);
        if (!rx_compile(&any, rx_ranges(&any, &everything, 1), r->maker, &all, r->err) ||
            !lang_combine(r->maker, LANG_WITHOUT, &all, &lang, &lang, r->err))
            return false;
    }
    if (!dfa_from_lang(r->maker, &lang, LANG_UTF8, (Str){0}, (Str){0}, dfa, r->err)) return false;
    *out = grammar_add_dfa(r->b, dfa);
    return true;
}

bool reader_ranges(Reader *r, const RxRange *ranges, uint32_t count, bool negated, GrammarNode *out) {
    Arena mark = r->arena;
    Rx rx = rx_begin(&r->arena);
    bool ok = reader_leaf(r, &rx, rx_ranges(&rx, ranges, count), negated, out);
    r->arena = mark;
    return ok;
}

bool reader_pattern(Reader *r, Str pattern, GrammarNode *out) {
    Arena mark = r->arena;
    Rx rx = rx_begin(&r->arena);
    uint32_t root;
    size_t from = (size_t)(pattern.ptr - r->text.ptr);
    bool ok = rx_read_pattern(&rx, pattern, RX_PART, r->maker, &root, r->err);
    if (!ok && r->err->position != ERROR_NO_POSITION && pattern.ptr >= r->text.ptr &&
        pattern.ptr < r->text.ptr + r->text.len)
        r->err->position += from;
    ok = ok && reader_leaf(r, &rx, root, false, out);
    r->arena = mark;
    return ok;
}

bool reader_token(Reader *r, int32_t *out) {
    size_t from = r->at++;
    uint32_t id;
    if (reader_take(r, "[")) {
        if (!reader_number(r, &id)) return false;
        *out = (int32_t)id;
        return reader_take(r, "]>") || reader_fail(r, "\"]>\" is missing");
    }
    while (!reader_at_end(r) && reader_peek(r) != '>' && reader_peek(r) != '\n')
        r->at++;
    if (!reader_take(r, ">")) return reader_fail_at(r, from, "a token's \">\" is missing");
    Str name = str_slice(r->text, from, r->at);
    *out = r->tokenizer ? tokenizer_token_by_text(r->tokenizer, name) : TOKEN_NONE;
    return *out != TOKEN_NONE || reader_fail_at(r, from, "the vocabulary has no token %.*s", STR_ARG(name));
}
