#include "base/utf8.h"
#include "grammar/grammar_reader.h"
#include "grammar/lark_common.h"

typedef struct {
    Reader r;
    GrammarNode ignored; // a rule: any number of what %ignore names
    bool in_terminal;    // in the definition of one, where nothing is ignored
    uint32_t n_ignored;  // at the bottom of r.parts
} Lark;

static bool is_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static bool is_terminal(Str name) {
    size_t i = 0;
    while (i < name.len && name.ptr[i] == '_')
        i++;
    return i < name.len && name.ptr[i] >= 'A' && name.ptr[i] <= 'Z';
}

static void skip_space(Reader *r, bool lines) {
    for (;; r->at++) {
        char c = reader_peek(r);
        bool comment = c == '#' || (c == '/' && r->at + 1 < r->text.len && r->text.ptr[r->at + 1] == '/');
        while (comment && !reader_at_end(r) && reader_peek(r) != '\n')
            r->at++;
        c = reader_peek(r);
        if (reader_at_end(r) || !(c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r')))) return;
    }
}

// Goes to the next line if that begins with "|".
static void skip_to_alternative(Reader *r) {
    size_t from = r->at;
    skip_space(r, true);
    if (reader_peek(r) != '|') r->at = from;
}

static bool read_name(Reader *r, Str *out) {
    size_t from = r->at;
    while (is_name(reader_peek(r)))
        r->at++;
    *out = str_slice(r->text, from, r->at);
    return out->len > 0 || reader_fail(r, "a name is missing");
}

static GrammarNode behind_terminal(Lark *l, GrammarNode terminal) {
    if (l->in_terminal) return terminal;
    return grammar_add_sequence(l->r.b, (GrammarNode[]){terminal, l->ignored}, 2);
}

// ---- terminals ----

// The characters between the quotes; *out is in the reader's arena.
static bool read_quoted(Reader *r, Str *out) {
    size_t from = r->at++, length = 0;
    char *bytes = arena_new_dirty(&r->arena, char, r->text.len - from);
    if (!bytes) return error_set(r->err, ERR_NO_MEMORY, "no memory to read a grammar");
    while (reader_peek(r) != '"' || reader_at_end(r)) {
        uint32_t character;
        if (reader_at_end(r) || reader_peek(r) == '\n')
            return reader_fail_at(r, from, "a text's closing quote is missing");
        if (!reader_character(r, "\\\"'/", &character)) return false;
        length += utf8_encode(character, bytes + length);
    }
    r->at++;
    *out = (Str){bytes, length};
    return true;
}

static bool read_range(Reader *r, Str first, GrammarNode *out) {
    Str last;
    RxRange range;
    size_t from = r->at;
    if (reader_peek(r) != '"') return reader_fail(r, "a text is missing behind \"..\"");
    if (!read_quoted(r, &last)) return false;
    if (utf8_decode(first, &range.first) != first.len || utf8_decode(last, &range.last) != last.len ||
        first.len == 0 || last.len == 0 || range.last < range.first)
        return reader_fail_at(r, from, "a range is from one character to a later one");
    return reader_ranges(r, &range, 1, false, out);
}

// Each ASCII letter in both cases.
static bool add_any_case(Reader *r, Str text, GrammarNode *out) {
    uint32_t from = r->n_parts;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i], lower = (char)(c | 0x20);
        GrammarNode node = grammar_add_literal(r->b, (Str){&c, 1});
        if (lower >= 'a' && lower <= 'z') {
            char other = (char)(c ^ 0x20);
            GrammarNode both[] = {node, grammar_add_literal(r->b, (Str){&other, 1})};
            node = grammar_add_choice(r->b, both, 2);
        }
        if (!reader_push(r, node)) return false;
    }
    *out = reader_pop(r, from, true);
    return true;
}

static bool read_text(Reader *r, GrammarNode *out) {
    Str text;
    if (!read_quoted(r, &text)) return false;
    if (reader_take(r, "..")) return read_range(r, text, out);
    if (reader_peek(r) == 'i' && !(r->at + 1 < r->text.len && is_name(r->text.ptr[r->at + 1]))) {
        r->at++;
        return add_any_case(r, text, out);
    }
    *out = grammar_add_literal(r->b, text);
    return true;
}

static bool read_pattern(Reader *r, GrammarNode *out) {
    size_t from = r->at++;
    bool any_case = false, dot_all = false;
    for (; reader_peek(r) != '/' || reader_at_end(r); r->at++) {
        if (reader_peek(r) == '\\') r->at++;
        if (reader_at_end(r) || reader_peek(r) == '\n')
            return reader_fail_at(r, from, "a pattern's closing \"/\" is missing");
    }
    Str pattern = str_slice(r->text, from + 1, r->at++);
    for (char c; c = reader_peek(r), c >= 'a' && c <= 'z'; r->at++) {
        any_case = any_case || c == 'i';
        dot_all = dot_all || c == 's';
        if (!strchr("isu", c)) return reader_fail(r, "the flag %c of a pattern is not supported", c);
    }
    char *bytes = arena_new_dirty(&r->arena, char, lark_pattern_bytes(pattern.len));
    if (!bytes) return error_set(r->err, ERR_NO_MEMORY, "no memory to read a grammar");
    size_t length = lark_pattern_translate(pattern, any_case, dot_all, bytes);
    if (reader_pattern(r, (Str){bytes, length}, out)) return true;
    if (r->err->code != ERR_NO_MEMORY && r->err->code != ERR_TOO_LARGE) {
        char message[ERROR_MESSAGE_BYTES];
        memcpy(message, r->err->message, sizeof message);
        return reader_fail_at(r, from, "%s", message);
    }
    return false;
}

// ---- rules ----

static bool read_alternatives(Lark *l, GrammarNode *out);

static bool read_group(Lark *l, GrammarNode *out) {
    Reader *r = &l->r;
    size_t from = r->at;
    bool optional = reader_peek(r) == '[';
    if (r->depth == READER_NEST_MAX)
        return reader_fail(r, "more than %d groups in each other", READER_NEST_MAX);
    r->at++;
    r->depth++;
    if (!read_alternatives(l, out)) return false;
    r->depth--;
    if (!reader_take(r, optional ? "]" : ")"))
        return reader_fail_at(r, from, "a group's \"%s\" is missing", optional ? "]" : ")");
    if (optional) *out = grammar_add_repeat(r->b, *out, 0, 1);
    return true;
}

static bool read_reference(Lark *l, GrammarNode *out) {
    Str name;
    if (!read_name(&l->r, &name)) return false;
    if (reader_peek(&l->r) == '{') return reader_fail(&l->r, "templates are not supported");
    *out = reader_name(&l->r, name)->rule;
    if (is_terminal(name)) *out = behind_terminal(l, *out);
    return true;
}

// False with *found false where no symbol begins here, and no error.
static bool read_symbol(Lark *l, bool *found, GrammarNode *out) {
    Reader *r = &l->r;
    Arena mark = r->arena;
    bool ok;
    char c = reader_peek(r);
    *found = true;
    if (c == '(' || c == '[') return read_group(l, out);
    if (is_name(c)) return read_reference(l, out);
    if (c == '"') ok = read_text(r, out);
    else if (c == '/') ok = read_pattern(r, out);
    else if (c == '<') {
        int32_t token;
        ok = reader_token(r, &token);
        if (ok) *out = grammar_add_tokens(r->b, &token, 1);
    } else {
        *found = false;
        return true;
    }
    r->arena = mark;
    if (ok) *out = behind_terminal(l, *out);
    return ok;
}

static bool read_times(Reader *r, uint32_t *min, uint32_t *max) {
    skip_space(r, false);
    if (!reader_number(r, min)) return false;
    *max = *min;
    skip_space(r, false);
    if (!reader_take(r, "..")) return true;
    skip_space(r, false);
    if (!reader_number(r, max)) return false;
    return *max >= *min || reader_fail(r, "a repetition of at least %u and at most %u times", *min, *max);
}

static bool read_repeats(Reader *r, GrammarNode *node) {
    for (;;) {
        uint32_t min = 0, max = GRAMMAR_UNBOUNDED;
        skip_space(r, r->depth > 0);
        if (reader_take(r, "+")) min = 1;
        else if (reader_take(r, "?")) max = 1;
        else if (reader_take(r, "~")) {
            if (!read_times(r, &min, &max)) return false;
        } else if (!reader_take(r, "*")) return true;
        *node = grammar_add_repeat(r->b, *node, min, max);
    }
}

// The parts of one alternative stay on the stack.
static bool read_parts(Lark *l) {
    Reader *r = &l->r;
    for (;;) {
        GrammarNode node;
        bool found;
        skip_space(r, r->depth > 0);
        if (!read_symbol(l, &found, &node)) return false;
        if (!found) break;
        if (!read_repeats(r, &node) || !reader_push(r, node)) return false;
    }
    if (reader_take(r, "->")) {
        Str alias;
        skip_space(r, false);
        if (!read_name(r, &alias)) return false;
    }
    skip_space(r, r->depth > 0);
    skip_to_alternative(r);
    return true;
}

static bool read_alternatives(Lark *l, GrammarNode *out) {
    Reader *r = &l->r;
    uint32_t from = r->n_parts;
    do {
        uint32_t parts = r->n_parts;
        if (!read_parts(l)) return false;
        if (!reader_push(r, reader_pop(r, parts, true))) return false;
    } while (reader_take(r, "|"));
    *out = reader_pop(r, from, false);
    return true;
}

// The same for a rule, whose alternatives may begin with it: those are what may follow the others, again and
// again.
static bool read_body(Lark *l, GrammarNode rule, GrammarNode *out) {
    Reader *r = &l->r;
    uint32_t from = r->n_parts;
    GrammarNode again = GRAMMAR_NEVER;
    skip_to_alternative(r);
    (void)reader_take(r, "|");
    do {
        uint32_t parts = r->n_parts;
        if (!read_parts(l)) return false;
        bool begins_itself = r->n_parts > parts && r->parts[parts] == rule;
        GrammarNode node;
        if (begins_itself) {
            node = grammar_add_sequence(r->b, r->parts + parts + 1, r->n_parts - parts - 1);
            again = again == GRAMMAR_NEVER ? node : grammar_add_choice(r->b, (GrammarNode[]){again, node}, 2);
            r->n_parts = parts;
            continue;
        }
        node = reader_pop(r, parts, true);
        if (!reader_push(r, node)) return false;
    } while (reader_take(r, "|"));
    *out = reader_pop(r, from, false);
    if (again == GRAMMAR_NEVER) return true;
    GrammarNode more = grammar_add_repeat(r->b, again, 0, GRAMMAR_UNBOUNDED);
    *out = grammar_add_sequence(r->b, (GrammarNode[]){*out, more}, 2);
    return true;
}

static bool read_definition(Lark *l) {
    Reader *r = &l->r;
    Str name;
    GrammarNode body;
    uint32_t priority;
    size_t from = r->at;
    while (reader_take(r, "?") || reader_take(r, "!")) {
    }
    if (!read_name(r, &name)) return false;
    if (reader_peek(r) == '{') return reader_fail(r, "templates are not supported");
    if (reader_take(r, ".")) {
        (void)reader_take(r, "-");
        if (!reader_number(r, &priority)) return false;
    }
    skip_space(r, false);
    if (!reader_take(r, ":")) return reader_fail(r, "\":\" is missing");
    l->in_terminal = is_terminal(name);
    GrammarNode rule = reader_name(r, name)->rule;
    if (!read_body(l, rule, &body)) return false;
    if (!reader_set(r, reader_name(r, name), from)) return false;
    grammar_set_rule(r->b, rule, body);
    return true;
}

// ---- directives ----

static bool import_one(Lark *l, Str name, Str as) {
    Reader *r = &l->r;
    GrammarNode node;
    const char *pattern = lark_common_pattern(name);
    if (!pattern) return reader_fail(r, "common.%.*s is not known", STR_ARG(name));
    if (!reader_pattern(r, str_from_c(pattern), &node)) return false;
    ReaderName *entry = reader_name(r, as);
    if (!entry->is_imported && !reader_set(r, entry, r->at)) return false;
    entry->is_imported = true; // which may be done again
    grammar_set_rule(r->b, entry->rule, node);
    return true;
}

static bool read_import(Lark *l) {
    Reader *r = &l->r;
    Str name, as;
    skip_space(r, false);
    if (!reader_take(r, "common")) return reader_fail(r, "only common can be imported from");
    if (reader_take(r, ".")) {
        if (!read_name(r, &name)) return false;
        as = name;
        skip_space(r, false);
        if (reader_take(r, "->")) {
            skip_space(r, false);
            if (!read_name(r, &as)) return false;
        }
        return import_one(l, name, as);
    }
    skip_space(r, false);
    if (!reader_take(r, "(")) return reader_fail(r, "names are missing behind common");
    do {
        skip_space(r, true);
        if (!read_name(r, &name) || !import_one(l, name, name)) return false;
        skip_space(r, true);
    } while (reader_take(r, ","));
    return reader_take(r, ")") || reader_fail(r, "\")\" is missing");
}

static bool read_directive(Lark *l) {
    Reader *r = &l->r;
    Str name;
    r->at++;
    if (!read_name(r, &name)) return false;
    if (str_eq(name, STR("import"))) return read_import(l);
    if (!str_eq(name, STR("ignore"))) return reader_fail(r, "%%%.*s is not supported", STR_ARG(name));
    GrammarNode node;
    l->in_terminal = true;
    if (!read_alternatives(l, &node)) return false;
    l->n_ignored++;
    return reader_push(r, node);
}

bool lark_read(Str text, const Tokenizer *tokenizer, GrammarBuilder *b, LangMaker *maker, Arena scratch,
               GrammarNode *root, Error *err) {
    Lark l = {0};
    Reader *r = &l.r;
    if (!reader_init(r, "Lark", text, b, maker, scratch, err)) return false;
    r->tokenizer = tokenizer;
    grammar_merge_leaves(b);
    l.ignored = grammar_add_rule(b, STR("%ignore"));
    GrammarNode start = reader_name(r, STR("start"))->rule;
    for (skip_space(r, true); !reader_at_end(r); skip_space(r, true)) {
        if (!(reader_peek(r) == '%' ? read_directive(&l) : read_definition(&l))) return false;
        skip_space(r, false);
        if (!reader_at_end(r) && reader_peek(r) != '\n' && reader_peek(r) != '\r')
            return reader_fail(r, "no rule can go on like this");
    }
    GrammarNode ignored = reader_pop(r, 0, false);
    if (l.n_ignored) ignored = grammar_add_repeat(b, ignored, 0, GRAMMAR_UNBOUNDED);
    grammar_set_rule(b, l.ignored, l.n_ignored ? ignored : GRAMMAR_EMPTY);
    *root = grammar_add_sequence(b, (GrammarNode[]){l.ignored, start}, 2);
    return reader_check_names(r);
}
