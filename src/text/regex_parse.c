// Pattern text to syntax tree: alternatives, groups, looks and quantifiers.
#include "text/regex_internal.h"

static bool parse_alternatives(RegexParser *p, uint16_t *out);

bool regex_refuse(RegexParser *p, size_t at, const char *what) {
    return error_set_at(p->err, ERR_UNSUPPORTED, at, "regular expression: %s at byte %zu of \"%.*s\"", what,
                        at, STR_ARG(p->pattern));
}

bool regex_full(RegexParser *p) {
    return error_set(p->err, ERR_NO_MEMORY, "regular expression: out of memory");
}

bool regex_take(RegexParser *p, const char *text) {
    Str rest = str_slice(p->pattern, p->at, p->pattern.len);
    if (!str_starts_with(rest, str_from_c(text))) return false;
    p->at += strlen(text);
    return true;
}

// ---- nodes ----

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

static bool add_node(RegexParser *p, RegexNode node, uint16_t *out) {
    RegexTree *t = p->tree;
    if (t->n_nodes == REGEX_NODES_MAX) return regex_refuse(p, p->at, "too long a pattern");
    t->nodes[t->n_nodes] = node;
    *out = (uint16_t)t->n_nodes++;
    return true;
}

static bool add_set_node(RegexParser *p, RegexNode node, const CharSet *set, uint16_t *out) {
    node.set = regex_add_set(p->tree, set->masks, p->arena);
    bool is_full = p->tree->n_sets == REGEX_SETS_MAX;
    if (node.set == UINT16_MAX && !is_full) return regex_full(p);
    if (node.set == UINT16_MAX) return regex_refuse(p, p->at, "too many different classes");
    return add_node(p, node, out);
}

static bool add_pair(RegexParser *p, RegexKind kind, uint16_t a, uint16_t b, uint16_t *out) {
    return add_node(p, (RegexNode){.kind = (uint8_t)kind, .a = a, .b = b}, out);
}

bool regex_may_be_empty(const RegexTree *t, uint16_t node) {
    const RegexNode *n = &t->nodes[node];
    switch ((RegexKind)n->kind) {
    case REGEX_SET: return false;
    case REGEX_CONCAT: return regex_may_be_empty(t, n->a) && regex_may_be_empty(t, n->b);
    case REGEX_ALTERNATE: return regex_may_be_empty(t, n->a) || regex_may_be_empty(t, n->b);
    case REGEX_REPEAT: return n->min == 0 || regex_may_be_empty(t, n->a);
    case REGEX_EMPTY:
    case REGEX_LOOK:
    case REGEX_AHEAD:
    case REGEX_BEHIND: break;
    }
    return true;
}

// ---- places in a text ----

// What a character before a place, or behind it, is looked at for. At the text's ends there is none.
static bool add_behind(RegexParser *p, const CharSet *set, bool negative, uint16_t *out) {
    uint16_t body;
    return add_set_node(p, (RegexNode){.kind = REGEX_SET}, set, &body) &&
           add_node(p, (RegexNode){.kind = REGEX_BEHIND, .negative = negative, .a = body}, out);
}

static bool add_look(RegexParser *p, const CharSet *set, bool at_end, uint16_t *out) {
    return add_set_node(p, (RegexNode){.kind = REGEX_LOOK, .at_end = at_end}, set, out);
}

// Either the first pair of looks holds, or the second one does.
static bool add_either(RegexParser *p, const uint16_t looks[4], uint16_t *out) {
    uint16_t first, second;
    return add_pair(p, REGEX_CONCAT, looks[0], looks[1], &first) &&
           add_pair(p, REGEX_CONCAT, looks[2], looks[3], &second) &&
           add_pair(p, REGEX_ALTERNATE, first, second, out);
}

// \b lies between a character of a word and one of none; \B does not.
static bool add_border(RegexParser *p, bool negative, uint16_t *out) {
    CharSet word, other;
    uint16_t looks[4];
    if (!regex_new_set(p, &word) || !regex_new_set(p, &other) || !regex_add_word(p, &word)) return false;
    regex_join(p, &other, &word);
    regex_invert(p, &other);
    return add_behind(p, &word, false, &looks[0]) &&
           add_look(p, negative ? &word : &other, !negative, &looks[1]) &&
           add_behind(p, &word, true, &looks[2]) &&
           add_look(p, negative ? &other : &word, negative, &looks[3]) && add_either(p, looks, out);
}

// ^ is where the text begins, or behind a line's end that does not end the text.
static bool add_line_start(RegexParser *p, const CharSet *any, const CharSet *line_end, uint16_t *out) {
    uint16_t looks[4];
    return add_behind(p, any, true, &looks[0]) && add_node(p, (RegexNode){.kind = REGEX_EMPTY}, &looks[1]) &&
           add_behind(p, line_end, false, &looks[2]) && add_look(p, any, false, &looks[3]) &&
           add_either(p, looks, out);
}

// \Z is where the text ends, or before a line's end that does.
static bool add_last_line_end(RegexParser *p, const CharSet *none, const CharSet *line_end, uint16_t *out) {
    uint16_t end, line, both, ahead;
    return add_look(p, none, true, &end) &&
           add_set_node(p, (RegexNode){.kind = REGEX_SET}, line_end, &line) &&
           add_pair(p, REGEX_CONCAT, line, end, &both) &&
           add_node(p, (RegexNode){.kind = REGEX_AHEAD, .a = both}, &ahead) &&
           add_pair(p, REGEX_ALTERNATE, end, ahead, out);
}

// *is_place: the pattern goes on with one, and *out is it.
static bool parse_place(RegexParser *p, bool *is_place, uint16_t *out) {
    static const char *const names[] = {"^", "$", "\\A", "\\z", "\\Z", "\\b", "\\B"};
    CharSet none, any, line_end;
    size_t i = 0;
    while (i < COUNT_OF(names) && !regex_take(p, names[i]))
        i++;
    *is_place = i < COUNT_OF(names);
    if (!*is_place) return true;
    if (!regex_new_set(p, &none) || !regex_new_set(p, &any) || !regex_new_set(p, &line_end) ||
        !regex_add_range(p, &line_end, '\n', '\n'))
        return false;
    regex_invert(p, &any);
    switch (i) {
    case 0: return add_line_start(p, &any, &line_end, out);
    case 1: return add_look(p, &line_end, true, out);
    case 2: return add_behind(p, &any, true, out);
    case 3: return add_look(p, &none, true, out);
    case 4: return add_last_line_end(p, &none, &line_end, out);
    default: return add_border(p, i == 6, out);
    }
}

// ---- groups and quantifiers ----

// Adds to `set` and *at_end what a look-ahead's body accepts; false where it is more than one character.
static bool collect_look(const RegexParser *p, uint16_t node, CharSet *set, bool *at_end) {
    const RegexNode *n = &p->tree->nodes[node];
    switch ((RegexKind)n->kind) {
    case REGEX_ALTERNATE: return collect_look(p, n->a, set, at_end) && collect_look(p, n->b, set, at_end);
    case REGEX_LOOK:
        *at_end |= n->at_end;
        regex_join(p, set, &p->tree->sets[n->set]);
        return true;
    case REGEX_SET: regex_join(p, set, &p->tree->sets[n->set]); return true;
    default: return false;
    }
}

static bool parse_look_ahead(RegexParser *p, size_t start, bool negative, uint16_t *out) {
    uint16_t body;
    CharSet set;
    bool at_end = false;
    if (!parse_alternatives(p, &body) || !regex_new_set(p, &set)) return false;
    if (!regex_take(p, ")")) return regex_refuse(p, start, "group without end");
    if (!collect_look(p, body, &set, &at_end))
        return add_node(p, (RegexNode){.kind = REGEX_AHEAD, .negative = negative, .a = body}, out);
    if (negative) {
        regex_invert(p, &set);
        at_end = !at_end;
    }
    return add_look(p, &set, at_end, out);
}

// Whether a part of the pattern looks further ahead than one character, or behind what it takes, as
// possessive repetitions do.
static bool looks_far(const RegexParser *p, uint16_t node) {
    const RegexNode *n = &p->tree->nodes[node];
    switch ((RegexKind)n->kind) {
    case REGEX_AHEAD: return true;
    case REGEX_CONCAT:
    case REGEX_ALTERNATE: return looks_far(p, n->a) || looks_far(p, n->b);
    case REGEX_REPEAT: return n->mode == REGEX_POSSESSIVE || looks_far(p, n->a);
    case REGEX_BEHIND: return looks_far(p, n->a);
    case REGEX_EMPTY:
    case REGEX_SET:
    case REGEX_LOOK: break;
    }
    return false;
}

static bool parse_look_behind(RegexParser *p, size_t start, bool negative, uint16_t *out) {
    uint16_t body;
    if (!parse_alternatives(p, &body)) return false;
    if (!regex_take(p, ")")) return regex_refuse(p, start, "group without end");
    if (looks_far(p, body))
        return regex_refuse(
            p, start, "look-ahead of more than one character, or possessive repetition, in a look-behind");
    return add_node(p, (RegexNode){.kind = REGEX_BEHIND, .negative = negative, .a = body}, out);
}

static bool parse_group(RegexParser *p, uint16_t *out) {
    size_t start = p->at - 1;
    if (++p->depth > REGEX_GROUP_DEPTH_MAX) return regex_refuse(p, start, "nested too deeply");
    bool outer_ignore_case = p->ignore_case;
    bool ok;
    if (regex_take(p, "?=")) {
        ok = parse_look_ahead(p, start, false, out);
    } else if (regex_take(p, "?!")) {
        ok = parse_look_ahead(p, start, true, out);
    } else if (regex_take(p, "?<=")) {
        ok = parse_look_behind(p, start, false, out);
    } else if (regex_take(p, "?<!")) {
        ok = parse_look_behind(p, start, true, out);
    } else {
        if (regex_take(p, "?i:")) p->ignore_case = true;
        else if (!regex_take(p, "?:") && regex_peek(p, '?'))
            return regex_refuse(p, start, "unsupported kind of group");
        ok =
            parse_alternatives(p, out) && (regex_take(p, ")") || regex_refuse(p, start, "group without end"));
    }
    p->ignore_case = outer_ignore_case;
    p->depth--;
    return ok;
}

static bool parse_atom(RegexParser *p, uint16_t *out) {
    size_t start = p->at;
    if (regex_take(p, "(")) return parse_group(p, out);
    CharSet set;
    uint32_t codepoint;
    bool is_set = false, is_place;
    if (!parse_place(p, &is_place, out)) return false;
    if (is_place) return true;
    if (!regex_new_set(p, &set)) return false;
    if (regex_take(p, "[")) {
        if (!regex_parse_class(p, &set)) return false;
    } else if (regex_take(p, ".")) {
        bool outer_ignore_case = p->ignore_case;
        p->ignore_case = false;
        if (!regex_add_range(p, &set, '\n', '\n')) return false;
        p->ignore_case = outer_ignore_case;
        regex_invert(p, &set);
    } else if (regex_peek(p, '*') || regex_peek(p, '+') || regex_peek(p, '?') || regex_peek(p, '{')) {
        return regex_refuse(p, start, "unsupported or misplaced character");
    } else {
        if (regex_take(p, "\\") ? !regex_parse_escape(p, &set, &is_set, &codepoint)
                                : !regex_parse_character(p, &codepoint))
            return false;
        if (!is_set && !regex_add_range(p, &set, codepoint, codepoint)) return false;
    }
    return add_set_node(p, (RegexNode){.kind = REGEX_SET}, &set, out);
}

static bool parse_count(RegexParser *p, uint16_t *out) {
    uint32_t value = 0;
    size_t start = p->at;
    for (; p->at < p->pattern.len && p->pattern.ptr[p->at] >= '0' && p->pattern.ptr[p->at] <= '9'; p->at++) {
        value = value * 10 + (uint32_t)(p->pattern.ptr[p->at] - '0');
        if (value > REGEX_REPEAT_MAX) return regex_refuse(p, start, "too large a count");
    }
    if (p->at == start) return regex_refuse(p, start, "count expected");
    *out = (uint16_t)value;
    return true;
}

// The counts in braces, behind the opening one.
static bool parse_braces(RegexParser *p, RegexNode *node) {
    size_t start = p->at - 1;
    node->min = 0;
    if (!regex_peek(p, ',') && !parse_count(p, &node->min)) return false;
    node->max = node->min;
    if (regex_take(p, ",")) {
        node->max = REGEX_UNBOUNDED;
        if (!regex_peek(p, '}') && !parse_count(p, &node->max)) return false;
    }
    return (regex_take(p, "}") && node->min <= node->max) || regex_refuse(p, start, "bad counts");
}

static bool parse_repeated(RegexParser *p, uint16_t *out) {
    if (!parse_atom(p, out)) return false;
    for (;;) {
        RegexNode node = {.kind = REGEX_REPEAT, .a = *out, .mode = REGEX_GREEDY};
        size_t start = p->at;
        bool braces = false;
        if (regex_take(p, "*")) node.max = REGEX_UNBOUNDED;
        else if (regex_take(p, "+")) node.min = 1, node.max = REGEX_UNBOUNDED;
        else if (regex_take(p, "?")) node.max = 1;
        else if (regex_take(p, "{")) braces = true;
        else return true;
        if (braces && !parse_braces(p, &node)) return false;
        // As in Ruby, a plus behind braces repeats the whole once more.
        if (regex_take(p, "?")) node.mode = REGEX_LAZY;
        else if (!braces && regex_take(p, "+")) node.mode = REGEX_POSSESSIVE;
        if (node.mode == REGEX_POSSESSIVE && p->tree->nodes[node.a].kind != REGEX_SET) {
            return regex_refuse(p, start, "possessive repetition of more than one character");
        }
        // There, Ruby ends the count early.
        if (node.max > 1 && node.max != REGEX_UNBOUNDED && regex_may_be_empty(p->tree, node.a))
            return regex_refuse(p, start, "count of what may be empty");
        if (!add_node(p, node, out)) return false;
    }
}

static bool parse_sequence(RegexParser *p, uint16_t *out) {
    if (!add_node(p, (RegexNode){.kind = REGEX_EMPTY}, out)) return false;
    bool first = true;
    while (p->at < p->pattern.len && !regex_peek(p, '|') && !regex_peek(p, ')')) {
        uint16_t next;
        if (!parse_repeated(p, &next)) return false;
        if (first) *out = next;
        else if (!add_pair(p, REGEX_CONCAT, *out, next, out)) return false;
        first = false;
    }
    return true;
}

static bool parse_alternatives(RegexParser *p, uint16_t *out) {
    if (!parse_sequence(p, out)) return false;
    while (regex_take(p, "|")) {
        uint16_t next;
        if (!parse_sequence(p, &next) || !add_pair(p, REGEX_ALTERNATE, *out, next, out)) return false;
    }
    return true;
}

// ---- both passes ----

static void sort_bounds(RegexTree *t, uint32_t count) {
    for (uint32_t i = 1; i < count; i++) {
        uint32_t value = t->bounds[i], k = i;
        for (; k > 0 && t->bounds[k - 1] > value; k--)
            t->bounds[k] = t->bounds[k - 1];
        t->bounds[k] = value;
    }
}

static bool parse_once(RegexParser *p) {
    p->at = 0;
    p->tree->n_nodes = p->tree->n_sets = 0;
    if (!parse_alternatives(p, &p->tree->root)) return false;
    return p->at == p->pattern.len || regex_refuse(p, p->at, "closing parenthesis without group");
}

bool regex_parse(Str pattern, Arena *arena, RegexTree **out, Error *err) {
    RegexParser p = {.pattern = pattern, .arena = arena, .err = err};
    if (pattern.len > REGEX_PATTERN_BYTES_MAX)
        return regex_refuse(&p, REGEX_PATTERN_BYTES_MAX, "too long a pattern");
    RegexTree *tree = *out = p.tree = arena_new(arena, RegexTree, 1);
    p.known_bounds = arena_new(arena, uint64_t, (UNICODE_MAX + 1) / 64);
    if (!tree || !p.known_bounds) return regex_full(&p);
    tree->pattern = pattern;

    p.collecting = true;
    if (!regex_add_bound(&p, 0) || !regex_add_bound(&p, 128) || !parse_once(&p)) return false;
    sort_bounds(tree, p.n_bounds);
    p.collecting = false;
    tree->n_intervals = p.n_bounds;
    return parse_once(&p);
}
