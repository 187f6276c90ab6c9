#include "base/utf8.h"
#include "grammar/grammar_reader.h"

enum { GBNF_CLASS_MAX = 1024 };

static bool is_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

// Blanks and comments, and line ends where a rule goes on behind them.
static void skip_space(Reader *r, bool lines) {
    for (;; r->at++) {
        char c = reader_peek(r);
        if (c == '#')
            while (!reader_at_end(r) && reader_peek(r) != '\n' && reader_peek(r) != '\r')
                r->at++;
        c = reader_peek(r);
        if (reader_at_end(r) || !(c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r')))) return;
    }
}

static bool read_name(Reader *r, Str *out) {
    size_t from = r->at;
    while (is_name(reader_peek(r)))
        r->at++;
    *out = str_slice(r->text, from, r->at);
    return out->len > 0 || reader_fail(r, "a name is missing");
}

static bool read_literal(Reader *r, GrammarNode *out) {
    size_t from = r->at++;
    // Escapes are longer than what they stand for.
    char *bytes = arena_new_dirty(&r->arena, char, r->text.len - from);
    size_t length = 0;
    if (!bytes) return error_set(r->err, ERR_NO_MEMORY, "no memory to read a grammar");
    while (reader_peek(r) != '"' || reader_at_end(r)) {
        uint32_t character;
        if (reader_at_end(r)) return reader_fail_at(r, from, "a text's closing quote is missing");
        if (!reader_character(r, "\\\"[]-", &character)) return false;
        length += utf8_encode(character, bytes + length);
    }
    r->at++;
    *out = grammar_add_literal(r->b, (Str){bytes, length});
    return true;
}

static bool read_class(Reader *r, GrammarNode *out) {
    RxRange ranges[GBNF_CLASS_MAX];
    size_t from = r->at++;
    uint32_t count = 0;
    bool negated = reader_take(r, "^");
    while (reader_peek(r) != ']' || reader_at_end(r)) {
        if (reader_at_end(r)) return reader_fail_at(r, from, "a class's \"]\" is missing");
        if (count == GBNF_CLASS_MAX) return reader_fail_at(r, from, "a class of too many characters");
        RxRange *range = &ranges[count++];
        if (!reader_character(r, "\\\"[]-", &range->first)) return false;
        range->last = range->first;
        bool is_range = reader_peek(r) == '-' && r->at + 1 < r->text.len && r->text.ptr[r->at + 1] != ']';
        if (!is_range) continue;
        r->at++;
        if (!reader_character(r, "\\\"[]-", &range->last)) return false;
        if (range->last < range->first) return reader_fail_at(r, from, "a range that ends before it begins");
    }
    r->at++;
    if (count == 0) return reader_fail_at(r, from, "a class without characters");
    return reader_ranges(r, ranges, count, negated, out);
}

static bool read_token(Reader *r, bool negated, GrammarNode *out) {
    int32_t token;
    if (!reader_token(r, &token)) return false;
    *out = negated ? grammar_add_tokens_except(r->b, &token, 1) : grammar_add_tokens(r->b, &token, 1);
    return true;
}

static bool read_alternatives(Reader *r, bool nested, GrammarNode *out);

static bool read_group(Reader *r, GrammarNode *out) {
    size_t from = r->at++;
    if (r->depth == READER_NEST_MAX)
        return reader_fail(r, "more than %d groups in each other", READER_NEST_MAX);
    r->depth++;
    skip_space(r, true);
    if (!read_alternatives(r, true, out)) return false;
    r->depth--;
    return reader_take(r, ")") || reader_fail_at(r, from, "a group's \")\" is missing");
}

// False with *found false where no symbol begins here, and no error.
static bool read_symbol(Reader *r, bool *found, GrammarNode *out) {
    static const RxRange any = {0, 0x10FFFF};
    Arena mark = r->arena;
    bool ok = true;
    *found = true;
    char c = reader_peek(r);
    if (c == '"') ok = read_literal(r, out);
    else if (c == '[') ok = read_class(r, out);
    else if (c == '(') return read_group(r, out);
    else if (c == '<') ok = read_token(r, false, out);
    else if (reader_take(r, "!"))
        ok = reader_peek(r) == '<' ? read_token(r, true, out) : reader_fail(r, "no token behind \"!\"");
    else if (reader_take(r, ".")) ok = reader_ranges(r, &any, 1, false, out);
    else if (is_name(c)) {
        Str name;
        if (!read_name(r, &name)) return false;
        *out = reader_name(r, name)->rule;
        return true;
    } else *found = false;
    r->arena = mark;
    return ok;
}

static bool read_bounds(Reader *r, uint32_t *min, uint32_t *max) {
    skip_space(r, false);
    if (!reader_number(r, min)) return false;
    skip_space(r, false);
    *max = *min;
    if (reader_take(r, ",")) {
        skip_space(r, false);
        *max = GRAMMAR_UNBOUNDED;
        if (reader_peek(r) != '}' && !reader_number(r, max)) return false;
        skip_space(r, false);
    }
    if (*max < *min) return reader_fail(r, "a repetition of at least %u and at most %u times", *min, *max);
    return reader_take(r, "}") || reader_fail(r, "a repetition's \"}\" is missing");
}

static bool read_repeats(Reader *r, bool nested, GrammarNode *node) {
    for (;;) {
        uint32_t min = 0, max = GRAMMAR_UNBOUNDED;
        skip_space(r, nested);
        if (reader_take(r, "+")) min = 1;
        else if (reader_take(r, "?")) max = 1;
        else if (reader_take(r, "{")) {
            if (!read_bounds(r, &min, &max)) return false;
        } else if (!reader_take(r, "*")) return true;
        *node = grammar_add_repeat(r->b, *node, min, max);
    }
}

static bool read_sequence(Reader *r, bool nested, GrammarNode *out) {
    uint32_t from = r->n_parts;
    for (;;) {
        GrammarNode node;
        bool found;
        if (!read_symbol(r, &found, &node)) return false;
        if (!found) break;
        if (!read_repeats(r, nested, &node) || !reader_push(r, node)) return false;
    }
    *out = reader_pop(r, from, true);
    return true;
}

static bool read_alternatives(Reader *r, bool nested, GrammarNode *out) {
    uint32_t from = r->n_parts;
    GrammarNode node;
    do {
        skip_space(r, nested || r->n_parts > from);
        if (!read_sequence(r, nested, &node) || !reader_push(r, node)) return false;
    } while (reader_take(r, "|"));
    *out = reader_pop(r, from, false);
    return true;
}

static bool read_rule(Reader *r) {
    Str name;
    GrammarNode body;
    size_t from = r->at;
    if (reader_peek(r) == '|')
        return reader_fail(r, "outside of brackets a line cannot begin with \"|\": it ends the line before");
    if (!read_name(r, &name)) return false;
    skip_space(r, false);
    if (!reader_take(r, "::=")) return reader_fail(r, "\"::=\" is missing");
    skip_space(r, true);
    if (!read_alternatives(r, false, &body)) return false;
    if (!reader_at_end(r) && reader_peek(r) != '\n' && reader_peek(r) != '\r')
        return reader_fail(r, "no rule can go on like this");
    ReaderName *entry = reader_name(r, name);
    if (!reader_set(r, entry, from)) return false;
    grammar_set_rule(r->b, entry->rule, body);
    skip_space(r, true);
    return true;
}

bool gbnf_read(Str text, const Tokenizer *tokenizer, GrammarBuilder *b, LangMaker *maker, Arena scratch,
               GrammarNode *root, Error *err) {
    Reader r;
    if (!reader_init(&r, "GBNF", text, b, maker, scratch, err)) return false;
    r.tokenizer = tokenizer;
    grammar_merge_leaves(b);
    *root = reader_name(&r, STR("root"))->rule;
    skip_space(&r, true);
    while (!reader_at_end(&r))
        if (!read_rule(&r)) return false;
    return reader_check_names(&r);
}
