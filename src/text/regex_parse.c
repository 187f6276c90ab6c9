// Pattern text to syntax tree. The parser runs twice: first only to learn which characters the pattern names,
// because they decide the intervals that every set is made of; then to build.
#include "base/utf8.h"
#include "text/regex_internal.h"

typedef struct {
    Str pattern;
    size_t at;
    RegexTree *tree;
    Arena *arena;
    Error *err;
    uint32_t depth;
    uint32_t n_bounds;
    bool collecting; // the first pass: bounds are noted, and every set has 0 intervals
    bool ignore_case;
} Parser;

#define CATEGORY(name) (1u << UNICODE_##name)
#define LETTERS (CATEGORY(LU) | CATEGORY(LL) | CATEGORY(LT) | CATEGORY(LM) | CATEGORY(LO))
#define MARKS (CATEGORY(MN) | CATEGORY(MC) | CATEGORY(ME))
#define NUMBERS (CATEGORY(ND) | CATEGORY(NL) | CATEGORY(NO))
#define DASHES_AND_SUCH (CATEGORY(PC) | CATEGORY(PD) | CATEGORY(PO))
#define BRACKETS (CATEGORY(PS) | CATEGORY(PE) | CATEGORY(PI) | CATEGORY(PF))
#define SYMBOLS (CATEGORY(SM) | CATEGORY(SC) | CATEGORY(SK) | CATEGORY(SO))
#define SEPARATORS (CATEGORY(ZS) | CATEGORY(ZL) | CATEGORY(ZP))
#define CONTROLS (CATEGORY(CC) | CATEGORY(NEXT_LINE))
#define OTHERS (CONTROLS | CATEGORY(CF) | CATEGORY(CS) | CATEGORY(CO) | CATEGORY(CN))

static const struct {
    Str name;
    uint32_t categories;
} properties[] = {
    {STR("L"), LETTERS},       {STR("Lu"), CATEGORY(LU)}, {STR("Ll"), CATEGORY(LL)},
    {STR("Lt"), CATEGORY(LT)}, {STR("Lm"), CATEGORY(LM)}, {STR("Lo"), CATEGORY(LO)},
    {STR("M"), MARKS},         {STR("Mn"), CATEGORY(MN)}, {STR("Mc"), CATEGORY(MC)},
    {STR("Me"), CATEGORY(ME)}, {STR("N"), NUMBERS},       {STR("Nd"), CATEGORY(ND)},
    {STR("Nl"), CATEGORY(NL)}, {STR("No"), CATEGORY(NO)}, {STR("P"), DASHES_AND_SUCH | BRACKETS},
    {STR("Pc"), CATEGORY(PC)}, {STR("Pd"), CATEGORY(PD)}, {STR("Ps"), CATEGORY(PS)},
    {STR("Pe"), CATEGORY(PE)}, {STR("Pi"), CATEGORY(PI)}, {STR("Pf"), CATEGORY(PF)},
    {STR("Po"), CATEGORY(PO)}, {STR("S"), SYMBOLS},       {STR("Sm"), CATEGORY(SM)},
    {STR("Sc"), CATEGORY(SC)}, {STR("Sk"), CATEGORY(SK)}, {STR("So"), CATEGORY(SO)},
    {STR("Z"), SEPARATORS},    {STR("Zs"), CATEGORY(ZS)}, {STR("Zl"), CATEGORY(ZL)},
    {STR("Zp"), CATEGORY(ZP)}, {STR("C"), OTHERS},        {STR("Cc"), CONTROLS},
    {STR("Cf"), CATEGORY(CF)}, {STR("Cs"), CATEGORY(CS)}, {STR("Co"), CATEGORY(CO)},
    {STR("Cn"), CATEGORY(CN)},
};

static bool parse_alternatives(Parser *p, uint16_t *out);
static bool parse_class(Parser *p, CharSet *out);

static bool refuse(Parser *p, size_t at, const char *what) {
    return error_set_at(p->err, ERR_UNSUPPORTED, at, "regular expression: %s at byte %zu of \"%.*s\"", what,
                        at, STR_ARG(p->pattern));
}

static bool full(Parser *p) {
    return error_set(p->err, ERR_NO_MEMORY, "regular expression: out of memory");
}

static bool peek(const Parser *p, char c) {
    return p->at < p->pattern.len && p->pattern.ptr[p->at] == c;
}

static bool take(Parser *p, const char *text) {
    Str rest = str_slice(p->pattern, p->at, p->pattern.len);
    if (!str_starts_with(rest, str_from_c(text))) return false;
    p->at += strlen(text);
    return true;
}

// ---- sets ----

static bool set_new(Parser *p, CharSet *set) {
    set->masks = arena_new(p->arena, uint32_t, p->tree->n_intervals);
    return set->masks ? true : full(p);
}

static void set_invert(const Parser *p, CharSet *set) {
    for (uint32_t i = 0; i < p->tree->n_intervals; i++)
        set->masks[i] = ~set->masks[i];
}

static void set_add(const Parser *p, CharSet *set, const CharSet *other) {
    for (uint32_t i = 0; i < p->tree->n_intervals; i++)
        set->masks[i] |= other->masks[i];
}

static void set_add_categories(const Parser *p, CharSet *set, uint32_t categories) {
    for (uint32_t i = 0; i < p->tree->n_intervals; i++)
        set->masks[i] |= categories;
}

static bool add_bound(Parser *p, uint32_t first) {
    RegexTree *t = p->tree;
    for (uint32_t i = 0; i < p->n_bounds; i++) {
        if (t->bounds[i] == first) return true;
    }
    if (p->n_bounds == REGEX_BOUNDS_MAX) return refuse(p, p->at, "too many characters and ranges");
    t->bounds[p->n_bounds++] = first;
    return true;
}

static bool set_add_plain_range(Parser *p, CharSet *set, uint32_t first, uint32_t last) {
    const RegexTree *t = p->tree;
    if (p->collecting) return add_bound(p, first) && (last == UNICODE_MAX || add_bound(p, last + 1));
    for (uint32_t i = 0; i < t->n_intervals; i++) {
        if (t->bounds[i] >= first && t->bounds[i] <= last) set->masks[i] = UINT32_MAX;
    }
    return true;
}

// With (?i: each ASCII letter brings its other case, and s and k the two characters beyond ASCII that fold to
// them (Unicode's CaseFolding.txt, status C).
static bool set_add_range(Parser *p, CharSet *set, uint32_t first, uint32_t last) {
    if (!set_add_plain_range(p, set, first, last)) return false;
    if (!p->ignore_case) return true;
    if (last >= 128) return refuse(p, p->at, "case-insensitive characters beyond ASCII");
    for (uint32_t c = first; c <= last; c++) {
        uint32_t lower = c | 32;
        if (lower < 'a' || lower > 'z') continue;
        if (!set_add_plain_range(p, set, c ^ 32, c ^ 32)) return false;
        if (lower == 's' && !set_add_plain_range(p, set, 0x17F, 0x17F)) return false;
        if (lower == 'k' && !set_add_plain_range(p, set, 0x212A, 0x212A)) return false;
    }
    return true;
}

static bool set_add_white_space(Parser *p, CharSet *set) {
    set_add_categories(p, set, SEPARATORS | CATEGORY(NEXT_LINE));
    return set_add_plain_range(p, set, '\t', '\r');
}

// \w as Oniguruma has it: letters, marks, decimal and letter numbers and connecting punctuation; and of
// others the letters in circles and squares, and the fractions and small digits of Latin-1.
static bool set_add_word(Parser *p, CharSet *set) {
    static const uint32_t ranges[][2] = {{0xB2, 0xB3},      {0xB9, 0xB9},       {0xBC, 0xBE},
                                         {0x24B6, 0x24E9},  {0x1F130, 0x1F149}, {0x1F150, 0x1F169},
                                         {0x1F170, 0x1F189}};
    set_add_categories(p, set, LETTERS | MARKS | CATEGORY(ND) | CATEGORY(NL) | CATEGORY(PC));
    for (size_t i = 0; i < COUNT_OF(ranges); i++) {
        if (!set_add_plain_range(p, set, ranges[i][0], ranges[i][1])) return false;
    }
    return true;
}

uint16_t regex_add_set(RegexTree *t, const uint32_t *masks, Arena *arena) {
    size_t size = t->n_intervals * sizeof *masks;
    for (uint32_t i = 0; i < t->n_sets; i++) {
        if (memcmp(t->sets[i].masks, masks, size) == 0) return (uint16_t)i;
    }
    uint32_t *copy = arena_new(arena, uint32_t, t->n_intervals);
    if (t->n_sets == REGEX_SETS_MAX || !copy) return UINT16_MAX;
    memcpy(copy, masks, size);
    t->sets[t->n_sets] = (CharSet){copy};
    return (uint16_t)t->n_sets++;
}

// ---- nodes ----

static bool add_node(Parser *p, RegexNode node, uint16_t *out) {
    RegexTree *t = p->tree;
    if (t->n_nodes == REGEX_NODES_MAX) return refuse(p, p->at, "too long a pattern");
    t->nodes[t->n_nodes] = node;
    *out = (uint16_t)t->n_nodes++;
    return true;
}

static bool add_set_node(Parser *p, RegexNode node, const CharSet *set, uint16_t *out) {
    node.set = regex_add_set(p->tree, set->masks, p->arena);
    bool is_full = p->tree->n_sets == REGEX_SETS_MAX;
    if (node.set == UINT16_MAX && !is_full) return full(p);
    if (node.set == UINT16_MAX) return refuse(p, p->at, "too many different classes");
    return add_node(p, node, out);
}

// ---- escapes ----

static bool parse_hex(Parser *p, size_t digits_min, size_t digits_max, uint32_t *out) {
    uint32_t value = 0;
    size_t n = 0;
    for (; n < digits_max && p->at < p->pattern.len; n++, p->at++) {
        char c = p->pattern.ptr[p->at];
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                                : 16;
        if (digit == 16) break;
        value = value * 16 + digit;
    }
    if (n < digits_min || value > UNICODE_MAX) return refuse(p, p->at, "bad hexadecimal escape");
    *out = value;
    return true;
}

static bool parse_property(Parser *p, bool inverted, CharSet *set) {
    size_t start = p->at;
    if (!take(p, "{")) return refuse(p, start, "property without braces");
    if (take(p, "^")) inverted = !inverted;
    size_t from = p->at;
    while (p->at < p->pattern.len && p->pattern.ptr[p->at] != '}')
        p->at++;
    Str name = str_slice(p->pattern, from, p->at);
    if (!take(p, "}")) return refuse(p, start, "property without end");
    for (size_t i = 0; i < COUNT_OF(properties); i++) {
        if (!str_eq(name, properties[i].name)) continue;
        set_add_categories(p, set, inverted ? ~properties[i].categories : properties[i].categories);
        return true;
    }
    return refuse(p, start, "unknown or unsupported property");
}

// Behind a backslash: either one character, or a set (*is_set), which is added to `set`.
static bool parse_escape(Parser *p, CharSet *set, bool *is_set, uint32_t *codepoint) {
    size_t start = p->at - 1;
    if (p->at == p->pattern.len) return refuse(p, start, "backslash at the end");
    char c = p->pattern.ptr[p->at++];
    *is_set = false;
    CharSet part;
    switch (c) {
    case 'r': *codepoint = '\r'; return true;
    case 'n': *codepoint = '\n'; return true;
    case 't': *codepoint = '\t'; return true;
    case 'v': *codepoint = '\v'; return true;
    case 'f': *codepoint = '\f'; return true;
    case 'u': return parse_hex(p, 4, 4, codepoint);
    case 'x':
        if (!take(p, "{")) return parse_hex(p, 1, 2, codepoint);
        return parse_hex(p, 1, 6, codepoint) && (take(p, "}") || refuse(p, start, "bad hexadecimal escape"));
    case 's':
    case 'S':
    case 'w':
    case 'W':
    case 'd':
    case 'D':
    case 'p':
    case 'P': break;
    default:
        if ((uint8_t)c >= 128 || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z')) {
            return refuse(p, start, "unsupported escape");
        }
        *codepoint = (uint8_t)c;
        return true;
    }
    *is_set = true;
    if (!set_new(p, &part)) return false;
    if ((c | 32) == 'p') {
        if (!parse_property(p, false, &part)) return false;
    } else if ((c | 32) == 's') {
        if (!set_add_white_space(p, &part)) return false;
    } else if ((c | 32) == 'w') {
        if (!set_add_word(p, &part)) return false;
    } else {
        set_add_categories(p, &part, CATEGORY(ND));
    }
    if (c < 'a') set_invert(p, &part);
    set_add(p, set, &part);
    return true;
}

static bool parse_character(Parser *p, uint32_t *codepoint) {
    size_t length = utf8_decode(str_slice(p->pattern, p->at, p->pattern.len), codepoint);
    if (!length) return refuse(p, p->at, "invalid UTF-8");
    p->at += length;
    return true;
}

// ---- classes ----

// One character, range, escape or nested class within brackets.
static bool parse_class_item(Parser *p, CharSet *set) {
    size_t start = p->at;
    uint32_t first, last;
    bool is_set = false;
    if (take(p, "[:")) return refuse(p, start, "unsupported POSIX class");
    if (take(p, "[")) {
        CharSet nested;
        if (!parse_class(p, &nested)) return false;
        set_add(p, set, &nested);
        return true;
    }
    if (take(p, "\\") ? !parse_escape(p, set, &is_set, &first) : !parse_character(p, &first)) return false;
    if (is_set) return true;
    last = first;
    Str rest = str_slice(p->pattern, p->at, p->pattern.len);
    if (rest.len >= 2 && rest.ptr[0] == '-' && rest.ptr[1] != ']') {
        p->at++;
        if (peek(p, '[')) return refuse(p, start, "range to a class");
        if (take(p, "\\") ? !parse_escape(p, set, &is_set, &last) : !parse_character(p, &last)) return false;
        if (is_set || last < first) return refuse(p, start, "bad range");
    }
    return set_add_range(p, set, first, last);
}

// Behind the opening bracket, up to and including the closing one.
static bool parse_class(Parser *p, CharSet *out) {
    size_t start = p->at - 1;
    if (++p->depth > REGEX_GROUP_DEPTH_MAX) return refuse(p, start, "nested too deeply");
    bool inverted = take(p, "^");
    if (peek(p, ']')) return refuse(p, start, "empty class");
    CharSet all, part;
    if (!set_new(p, &all) || !set_new(p, &part)) return false;
    set_invert(p, &all);
    while (!take(p, "]")) {
        if (p->at == p->pattern.len) return refuse(p, start, "class without end");
        if (take(p, "&&")) {
            for (uint32_t i = 0; i < p->tree->n_intervals; i++)
                all.masks[i] &= part.masks[i], part.masks[i] = 0;
        } else if (!parse_class_item(p, &part)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < p->tree->n_intervals; i++)
        all.masks[i] &= part.masks[i];
    if (inverted) set_invert(p, &all);
    *out = all;
    p->depth--;
    return true;
}

// ---- groups and quantifiers ----

// Adds to `set` and *at_end what a look-ahead's body accepts; false where it is more than one character.
static bool collect_look(const Parser *p, uint16_t node, CharSet *set, bool *at_end) {
    const RegexNode *n = &p->tree->nodes[node];
    switch ((RegexKind)n->kind) {
    case REGEX_ALTERNATE: return collect_look(p, n->a, set, at_end) && collect_look(p, n->b, set, at_end);
    case REGEX_LOOK:
        *at_end |= n->at_end;
        set_add(p, set, &p->tree->sets[n->set]);
        return true;
    case REGEX_SET: set_add(p, set, &p->tree->sets[n->set]); return true;
    default: return false;
    }
}

static bool parse_look(Parser *p, size_t start, bool negative, uint16_t *out) {
    uint16_t body;
    CharSet set;
    bool at_end = false;
    if (!parse_alternatives(p, &body) || !set_new(p, &set)) return false;
    if (!take(p, ")")) return refuse(p, start, "group without end");
    if (!collect_look(p, body, &set, &at_end))
        return refuse(p, start, "look-ahead of more than one character");
    if (negative) {
        set_invert(p, &set);
        at_end = !at_end;
    }
    return add_set_node(p, (RegexNode){.kind = REGEX_LOOK, .at_end = at_end}, &set, out);
}

static bool parse_group(Parser *p, uint16_t *out) {
    size_t start = p->at - 1;
    if (++p->depth > REGEX_GROUP_DEPTH_MAX) return refuse(p, start, "nested too deeply");
    bool outer_ignore_case = p->ignore_case;
    bool ok;
    if (take(p, "?=")) {
        ok = parse_look(p, start, false, out);
    } else if (take(p, "?!")) {
        ok = parse_look(p, start, true, out);
    } else {
        if (take(p, "?i:")) p->ignore_case = true;
        else if (!take(p, "?:") && peek(p, '?')) return refuse(p, start, "unsupported kind of group");
        ok = parse_alternatives(p, out) && (take(p, ")") || refuse(p, start, "group without end"));
    }
    p->ignore_case = outer_ignore_case;
    p->depth--;
    return ok;
}

static bool parse_atom(Parser *p, uint16_t *out) {
    size_t start = p->at;
    if (take(p, "(")) return parse_group(p, out);
    CharSet set;
    uint32_t codepoint;
    bool is_set = false;
    if (!set_new(p, &set)) return false;
    if (take(p, "$")) {
        if (!set_add_plain_range(p, &set, '\n', '\n')) return false;
        return add_set_node(p, (RegexNode){.kind = REGEX_LOOK, .at_end = true}, &set, out);
    }
    if (take(p, "[")) {
        if (!parse_class(p, &set)) return false;
    } else if (take(p, ".")) {
        if (!set_add_plain_range(p, &set, '\n', '\n')) return false;
        set_invert(p, &set);
    } else if (peek(p, '^') || peek(p, '*') || peek(p, '+') || peek(p, '?') || peek(p, '{')) {
        return refuse(p, start, "unsupported or misplaced character");
    } else {
        if (take(p, "\\") ? !parse_escape(p, &set, &is_set, &codepoint) : !parse_character(p, &codepoint))
            return false;
        if (!is_set && !set_add_range(p, &set, codepoint, codepoint)) return false;
    }
    return add_set_node(p, (RegexNode){.kind = REGEX_SET}, &set, out);
}

static bool parse_count(Parser *p, uint16_t *out) {
    uint32_t value = 0;
    size_t start = p->at;
    for (; p->at < p->pattern.len && p->pattern.ptr[p->at] >= '0' && p->pattern.ptr[p->at] <= '9'; p->at++) {
        value = value * 10 + (uint32_t)(p->pattern.ptr[p->at] - '0');
        if (value > REGEX_REPEAT_MAX) return refuse(p, start, "too large a count");
    }
    if (p->at == start) return refuse(p, start, "count expected");
    *out = (uint16_t)value;
    return true;
}

// The counts in braces, behind the opening one.
static bool parse_braces(Parser *p, RegexNode *node) {
    size_t start = p->at - 1;
    node->min = 0;
    if (!peek(p, ',') && !parse_count(p, &node->min)) return false;
    node->max = node->min;
    if (take(p, ",")) {
        node->max = REGEX_UNBOUNDED;
        if (!peek(p, '}') && !parse_count(p, &node->max)) return false;
    }
    return (take(p, "}") && node->min <= node->max) || refuse(p, start, "bad counts");
}

static bool parse_repeated(Parser *p, uint16_t *out) {
    if (!parse_atom(p, out)) return false;
    for (;;) {
        RegexNode node = {.kind = REGEX_REPEAT, .a = *out, .mode = REGEX_GREEDY};
        size_t start = p->at;
        bool braces = false;
        if (take(p, "*")) node.max = REGEX_UNBOUNDED;
        else if (take(p, "+")) node.min = 1, node.max = REGEX_UNBOUNDED;
        else if (take(p, "?")) node.max = 1;
        else if (take(p, "{")) braces = true;
        else return true;
        if (braces && !parse_braces(p, &node)) return false;
        // As in Ruby, a plus behind braces repeats the whole once more.
        if (take(p, "?")) node.mode = REGEX_LAZY;
        else if (!braces && take(p, "+")) node.mode = REGEX_POSSESSIVE;
        if (node.mode == REGEX_POSSESSIVE && p->tree->nodes[node.a].kind != REGEX_SET) {
            return refuse(p, start, "possessive repetition of more than one character");
        }
        if (!add_node(p, node, out)) return false;
    }
}

static bool parse_sequence(Parser *p, uint16_t *out) {
    if (!add_node(p, (RegexNode){.kind = REGEX_EMPTY}, out)) return false;
    while (p->at < p->pattern.len && !peek(p, '|') && !peek(p, ')')) {
        uint16_t next;
        if (!parse_repeated(p, &next)) return false;
        bool first = p->tree->nodes[*out].kind == REGEX_EMPTY;
        if (first) *out = next;
        else if (!add_node(p, (RegexNode){.kind = REGEX_CONCAT, .a = *out, .b = next}, out)) return false;
    }
    return true;
}

static bool parse_alternatives(Parser *p, uint16_t *out) {
    if (!parse_sequence(p, out)) return false;
    while (take(p, "|")) {
        uint16_t next;
        if (!parse_sequence(p, &next)) return false;
        if (!add_node(p, (RegexNode){.kind = REGEX_ALTERNATE, .a = *out, .b = next}, out)) return false;
    }
    return true;
}

static void sort_bounds(RegexTree *t, uint32_t count) {
    for (uint32_t i = 1; i < count; i++) {
        uint32_t value = t->bounds[i], k = i;
        for (; k > 0 && t->bounds[k - 1] > value; k--)
            t->bounds[k] = t->bounds[k - 1];
        t->bounds[k] = value;
    }
}

static bool parse_once(Parser *p) {
    p->at = 0;
    p->tree->n_nodes = p->tree->n_sets = 0;
    if (!parse_alternatives(p, &p->tree->root)) return false;
    return p->at == p->pattern.len || refuse(p, p->at, "closing parenthesis without group");
}

bool regex_parse(Str pattern, Arena *arena, RegexTree **out, Error *err) {
    Parser p = {.pattern = pattern, .arena = arena, .err = err};
    if (pattern.len > REGEX_PATTERN_BYTES_MAX)
        return refuse(&p, REGEX_PATTERN_BYTES_MAX, "too long a pattern");
    RegexTree *tree = *out = p.tree = arena_new(arena, RegexTree, 1);
    if (!tree) return full(&p);

    p.collecting = true;
    if (!add_bound(&p, 0) || !add_bound(&p, 128) || !parse_once(&p)) return false;
    sort_bounds(tree, p.n_bounds);
    p.collecting = false;
    tree->n_intervals = p.n_bounds;
    return parse_once(&p);
}
