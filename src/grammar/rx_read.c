// Patterns in the syntax of ECMA-262 (2023, chapter 22.2, with the flag u), as far as they are regular.
// text/regex.h has a parser, too, but of another language: Oniguruma's, where . \d \s \w ^ $ and brackets
// mean other sets, and where quantifiers prefer one of several matches. Here only what matches counts.
#include "base/utf8.h"
#include "grammar/rx_internal.h"
#include "text/regex.h"

enum { GROUP_DEPTH_MAX = 100, CLASS_RANGES_MAX = 1 << 16 };

typedef struct {
    Rx *rx;
    LangMaker *m;
    Error *err;
    Str pattern;
    size_t at;
    uint32_t depth;    // of groups
    uint32_t n_last;   // of them, those that end the text
    uint32_t n_starts; // how many ^ have been read
    uint32_t n_ends;   // … $
    RxUse use;
} Reader;

// A set in the making.
typedef struct {
    RxRange *ranges;
    uint32_t count, cap;
} Ranges;

static bool refuse(Reader *r, size_t at, const char *what) {
    return error_set_at(r->err, ERR_INVALID_REQUEST, at, "%s at byte %zu of the pattern", what, at);
}

static bool check_room(Reader *r) {
    if (!r->rx->full) return true;
    (void)rx_refuse_full(r->rx, r->err);
    Error why = *r->err;
    if (why.code != ERR_TOO_LARGE) return false;
    return error_set_at(r->err, why.code, r->at, "%s at byte %zu of the pattern", why.message, r->at);
}

static bool at_end(const Reader *r) {
    return r->at >= r->pattern.len;
}

static bool peek(const Reader *r, char c) {
    return !at_end(r) && r->pattern.ptr[r->at] == c;
}

static bool take(Reader *r, const char *text) {
    if (!str_starts_with(str_slice(r->pattern, r->at, r->pattern.len), str_from_c(text))) return false;
    r->at += strlen(text);
    return true;
}

static bool read_character(Reader *r, uint32_t *codepoint) {
    size_t length = utf8_decode(str_slice(r->pattern, r->at, r->pattern.len), codepoint);
    if (!length) return refuse(r, r->at, "invalid UTF-8");
    r->at += length;
    return true;
}

// ---- sets ----

static bool add_range(Reader *r, Ranges *set, uint32_t first, uint32_t last) {
    if (set->count == CLASS_RANGES_MAX) return refuse(r, r->at, "a class with too many ranges");
    if (!lang_grow(r->rx->arena, (void **)&set->ranges, &set->cap, set->count + 1, sizeof *set->ranges))
        return lang_no_memory(r->err);
    set->ranges[set->count++] = (RxRange){first, last};
    return true;
}

static bool invert(Reader *r, Ranges *set) {
    set->count = rx_sort_ranges(set->ranges, set->count);
    Ranges rest = {0};
    uint32_t from = 0;
    for (uint32_t i = 0; i < set->count; i++) {
        if (set->ranges[i].first > from && !add_range(r, &rest, from, set->ranges[i].first - 1)) return false;
        from = set->ranges[i].last + 1;
    }
    if (from <= UNICODE_MAX && !add_range(r, &rest, from, UNICODE_MAX)) return false;
    *set = rest;
    return true;
}

static bool join(Reader *r, Ranges *set, const Ranges *other) {
    for (uint32_t i = 0; i < other->count; i++) {
        if (!add_range(r, set, other->ranges[i].first, other->ranges[i].last)) return false;
    }
    return true;
}

static bool add_categories(Reader *r, Ranges *set, uint32_t categories) {
    enum { BLOCKS = (UNICODE_MAX + 1) / UNICODE_BLOCK };
    uint32_t first = 0,
             n_in = 0; // the range that goes on, where `is_in`; of the last block that was looked at
    bool is_in = false;
    if (!categories) return true;
    for (uint32_t block = 0; block < BLOCKS; block++) {
        // Large parts of Unicode are one block again and again: what is all in, or all out, goes on.
        bool is_known = block && unicode_blocks[block] == unicode_blocks[block - 1];
        if (is_known && (n_in == 0 || n_in == UNICODE_BLOCK)) continue;
        if (!lang_work(r->m, UNICODE_BLOCK, r->err)) return false;
        n_in = 0;
        for (uint32_t c = block * UNICODE_BLOCK; c < (block + 1) * UNICODE_BLOCK; c++) {
            bool has = categories >> unicode_category(c) & 1;
            n_in += has;
            if (has == is_in) continue;
            if (has) first = c;
            else if (!add_range(r, set, first, c - 1)) return false;
            is_in = has;
        }
    }
    return !is_in || add_range(r, set, first, UNICODE_MAX);
}

// Behind \p or \P: {L}, {Letter}, {gc=L}, {Script=Greek}, {Alphabetic}.
static bool add_property(Reader *r, Ranges *set) {
    size_t start = r->at - 2, from;
    if (!take(r, "{")) return refuse(r, start, "a property without braces");
    for (from = r->at; !at_end(r) && !peek(r, '}'); r->at++) {
        if (peek(r, '=')) from = r->at + 1;
    }
    Str name = str_slice(r->pattern, from, r->at);
    if (!take(r, "}")) return refuse(r, start, "a property without end");
    uint32_t categories;
    const UnicodeSet *known;
    if (str_eq(name, STR("Any"))) return add_range(r, set, 0, UNICODE_MAX);
    if (str_eq(name, STR("Alphabetic"))) name = STR("alpha");
    if (!regex_find_property(name, &categories, &known))
        return refuse(r, start, "an unknown or unsupported property");
    for (uint32_t i = 0; known && i < known->count; i++) {
        const UnicodeRange *range = &unicode_ranges[known->first + i];
        if (!add_range(r, set, range->first, range->last)) return false;
    }
    return add_categories(r, set, categories);
}

static bool add_named_set(Reader *r, char name, Ranges *set) {
    // WhiteSpace and LineTerminator of ECMA-262, chapter 12.
    static const RxRange digits[] = {{'0', '9'}}, word[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}},
                         space[] = {{9, 13},          {32, 32},         {0xA0, 0xA0},     {0x1680, 0x1680},
                                    {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F},
                                    {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
    Ranges part = {0};
    const RxRange *ranges = NULL;
    size_t count = 0;
    switch (name | 32) {
    case 'd': ranges = digits, count = COUNT_OF(digits); break;
    case 'w': ranges = word, count = COUNT_OF(word); break;
    case 's': ranges = space, count = COUNT_OF(space); break;
    default:
        if (!add_property(r, &part)) return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (!add_range(r, &part, ranges[i].first, ranges[i].last)) return false;
    }
    return (name >= 'a' || invert(r, &part)) && join(r, set, &part);
}

// ---- escapes ----

static bool read_hex(Reader *r, size_t least, size_t most, uint32_t *out) {
    size_t n = 0;
    for (*out = 0; n < most && !at_end(r); n++, r->at++) {
        char c = r->pattern.ptr[r->at];
        uint32_t lower = (uint32_t)c | 32;
        uint32_t digit = c >= '0' && c <= '9' ? (uint32_t)(c - '0') : lower - 'a' + 10;
        if (digit > 15 || (digit > 9 && lower < 'a')) break;
        *out = *out * 16 + digit;
    }
    return n >= least ? true : refuse(r, r->at, "a bad hexadecimal escape");
}

// Behind \u: four digits, a pair of them for a surrogate pair, or digits in braces.
static bool read_unicode(Reader *r, uint32_t *codepoint) {
    size_t start = r->at - 2;
    if (take(r, "{")) {
        if (!read_hex(r, 1, 8, codepoint)) return false;
        if (!take(r, "}") || *codepoint > UNICODE_MAX) return refuse(r, start, "a bad hexadecimal escape");
    } else {
        if (!read_hex(r, 4, 4, codepoint)) return false;
        uint32_t low;
        size_t behind = r->at;
        if (*codepoint >= 0xD800 && *codepoint < 0xDC00 && take(r, "\\u")) {
            if (!read_hex(r, 4, 4, &low)) return false;
            if (low >= 0xDC00 && low < 0xE000)
                *codepoint = 0x10000 + ((*codepoint - 0xD800) << 10) + (low - 0xDC00);
            else r->at = behind;
        }
    }
    if (*codepoint >= 0xD800 && *codepoint < 0xE000) return refuse(r, start, "half of a surrogate pair");
    return true;
}

static bool read_control(Reader *r, size_t start, uint32_t *codepoint) {
    char c = at_end(r) ? 0 : r->pattern.ptr[r->at];
    if ((c | 32) < 'a' || (c | 32) > 'z') return refuse(r, start, "a bad control escape");
    r->at++;
    *codepoint = (uint32_t)c & 31;
    return true;
}

// Behind a backslash: one character, or a set that is added to `set`.
static bool read_escape(Reader *r, Ranges *set, bool *is_set, uint32_t *codepoint) {
    static const struct {
        char name;
        uint8_t codepoint;
    } controls[] = {{'t', 9}, {'n', 10}, {'v', 11}, {'f', 12}, {'r', 13}, {'0', 0}};
    size_t start = r->at - 1;
    if (at_end(r)) return refuse(r, start, "a backslash at the end");
    char c = r->pattern.ptr[r->at++];
    *is_set = c && strchr("dDwWsSpP", c) != NULL;
    if (*is_set) return add_named_set(r, c, set);
    for (size_t i = 0; i < COUNT_OF(controls); i++) {
        if (c != controls[i].name) continue;
        bool digit_follows = !at_end(r) && r->pattern.ptr[r->at] >= '0' && r->pattern.ptr[r->at] <= '9';
        if (c == '0' && digit_follows) return refuse(r, start, "an octal escape");
        *codepoint = controls[i].codepoint;
        return true;
    }
    switch (c) {
    case 'x': return read_hex(r, 2, 2, codepoint);
    case 'u': return read_unicode(r, codepoint);
    case 'c': return read_control(r, start, codepoint);
    case 'k': return refuse(r, start, "a back reference (\\k)");
    default: break;
    }
    if (c >= '1' && c <= '9') return refuse(r, start, "a back reference");
    if ((uint8_t)c >= 128 || ((c | 32) >= 'a' && (c | 32) <= 'z'))
        return refuse(r, start, "an unknown escape");
    *codepoint = (uint8_t)c;
    return true;
}

// ---- classes in brackets ----

static bool read_class_atom(Reader *r, Ranges *set, bool *is_set, uint32_t *codepoint) {
    *is_set = false;
    if (!take(r, "\\")) return read_character(r, codepoint);
    if (take(r, "b")) {
        *codepoint = 8;
        return true;
    }
    return read_escape(r, set, is_set, codepoint);
}

static bool read_class(Reader *r, uint32_t *out) {
    size_t start = r->at - 1;
    Ranges set = {0};
    bool inverted = take(r, "^");
    while (!take(r, "]")) {
        bool is_set, to_set;
        uint32_t first, last;
        size_t from = r->at;
        if (at_end(r)) return refuse(r, start, "a class without end");
        if (!read_class_atom(r, &set, &is_set, &first)) return false;
        if (is_set) continue;
        bool is_range = r->at + 1 < r->pattern.len && peek(r, '-') && r->pattern.ptr[r->at + 1] != ']';
        last = first;
        if (is_range) {
            r->at++;
            if (!read_class_atom(r, &set, &to_set, &last)) return false;
            if (to_set) return refuse(r, from, "a range that ends with a set");
        }
        if (last < first) return refuse(r, from, "a range that ends before it begins");
        if (!add_range(r, &set, first, last)) return false;
    }
    if (inverted && !invert(r, &set)) return false;
    *out = rx_ranges(r->rx, set.ranges, set.count);
    return true;
}

// ---- terms ----

// Parts in a row, or alternatives, in the making.
typedef struct {
    uint32_t *parts;
    uint32_t count, cap;
} Row;

static bool add_part(Reader *r, Row *row, uint32_t part) {
    if (!lang_grow(r->rx->arena, (void **)&row->parts, &row->cap, row->count + 1, sizeof part))
        return lang_no_memory(r->err);
    row->parts[row->count++] = part;
    return check_room(r);
}

// Halves at a time, so that the tree stays low.
static uint32_t join_row(Rx *rx, uint32_t (*two)(Rx *rx, uint32_t a, uint32_t b), const uint32_t *parts,
                         uint32_t count) {
    if (count <= 1) return count ? parts[0] : RX_EMPTY;
    uint32_t half = count / 2, a = join_row(rx, two, parts, half);
    return two(rx, a, join_row(rx, two, parts + half, count - half));
}

// What belongs to an alternative behind its last term: nothing; the rest of the text, which may be anything
// where the pattern is searched; the end of the text.
typedef enum { TAIL_NONE, TAIL_REST, TAIL_END } Tail;

static bool read_alternatives(Reader *r, Tail tail, uint32_t *out);

static bool read_number(Reader *r, uint32_t *out) {
    size_t start = r->at;
    for (*out = 0; !at_end(r) && r->pattern.ptr[r->at] >= '0' && r->pattern.ptr[r->at] <= '9'; r->at++) {
        *out = *out * 10 + (uint32_t)(r->pattern.ptr[r->at] - '0');
        if (*out > RX_REPEAT_MAX) *out = RX_REPEAT_MAX + 1;
    }
    return r->at > start;
}

// {n}, {n,}, {n,m}
static bool read_braces(Reader *r, uint32_t *min, uint32_t *max) {
    size_t start = r->at;
    if (take(r, "{") && read_number(r, min)) {
        *max = *min;
        if (take(r, ",") && !read_number(r, max)) *max = RX_UNBOUNDED;
        if (take(r, "}")) return true;
    }
    r->at = start;
    return false;
}

static bool read_quantifier(Reader *r, bool is_assertion, uint32_t *term) {
    size_t start = r->at;
    uint32_t min, max = RX_UNBOUNDED;
    if (take(r, "*")) min = 0;
    else if (take(r, "+")) min = 1;
    else if (take(r, "?")) min = 0, max = 1;
    else if (!read_braces(r, &min, &max)) return true;
    if (is_assertion) return refuse(r, start, "a repeated assertion");
    if (min > RX_REPEAT_MAX || (max != RX_UNBOUNDED && max > RX_REPEAT_MAX))
        return refuse(r, start, "a repetition of more than 10,000");
    if (min > max) return refuse(r, start, "a repetition whose bounds are the wrong way round");
    take(r, "?"); // which of several matches is preferred makes no difference
    start = r->at;
    if (peek(r, '+') || peek(r, '*') || peek(r, '?') || read_braces(r, &min, &max))
        return refuse(r, start, "a repeated repetition");
    *term = rx_repeat(r->rx, *term, min, max);
    return true;
}

static bool read_group(Reader *r, Tail tail, uint32_t *out) {
    size_t start = r->at - 1;
    if (take(r, "?:")) {
    } else if (take(r, "?<=") || take(r, "?<!")) {
        return refuse(r, start, "a look behind");
    } else if (take(r, "?=") || take(r, "?!")) {
        return refuse(r, start, "a look ahead in a group that is repeated or followed by more");
    } else if (take(r, "?<") || take(r, "?P<")) { // the latter is Python's
        while (!at_end(r) && !peek(r, '>'))
            r->at++;
        if (!take(r, ">")) return refuse(r, start, "a group's name without end");
    } else if (peek(r, '?')) {
        return refuse(r, start, "an unknown kind of group");
    }
    if (++r->depth > GROUP_DEPTH_MAX) return refuse(r, start, "groups nested too deeply");
    r->n_last += tail != TAIL_NONE;
    if (!read_alternatives(r, tail, out)) return false;
    r->n_last -= tail != TAIL_NONE;
    r->depth--;
    return take(r, ")") ? true : refuse(r, start, "a group without end");
}

static bool read_escaped_term(Reader *r, uint32_t *out) {
    size_t start = r->at - 1;
    if (peek(r, 'b') || peek(r, 'B')) return refuse(r, start, "a border of a word (\\b, \\B)");
    Ranges set = {0};
    bool is_set;
    uint32_t codepoint;
    if (!read_escape(r, &set, &is_set, &codepoint)) return false;
    if (!is_set && !add_range(r, &set, codepoint, codepoint)) return false;
    *out = rx_ranges(r->rx, set.ranges, set.count);
    return true;
}

// With the flag u, what has a meaning elsewhere stands for itself only behind a backslash.
static bool check_plain(Reader *r) {
    size_t start = r->at;
    uint32_t min, max;
    if (peek(r, '*') || peek(r, '+') || peek(r, '?') || read_braces(r, &min, &max))
        return refuse(r, start, "a repetition of nothing");
    if (take(r, "{,")) return refuse(r, start, "a repetition without a least number (write {0,n})");
    if (peek(r, '{')) return refuse(r, start, "a brace that begins no repetition (write \\{)");
    if (peek(r, '}')) return refuse(r, start, "a brace that ends no repetition (write \\})");
    return !peek(r, ']') || refuse(r, start, "a bracket that ends no class (write \\])");
}

static bool read_term(Reader *r, uint32_t *out) {
    static const RxRange no_newline[] = {{0, 9}, {11, 12}, {14, 0x2027}, {0x202A, UNICODE_MAX}};
    uint32_t codepoint;
    if (take(r, "^") || take(r, "\\A")) {
        r->n_starts++;
        *out = rx_add_kind(r->rx, RX_KIND_START);
        return true;
    }
    if (take(r, "$") || take(r, "\\Z")) {
        r->n_ends++;
        *out = rx_add_kind(r->rx, RX_KIND_END);
    } else if (take(r, ".")) *out = rx_ranges(r->rx, no_newline, COUNT_OF(no_newline));
    else if (take(r, "(")) return read_group(r, TAIL_NONE, out);
    else if (take(r, "[")) return read_class(r, out);
    else if (take(r, "\\")) return read_escaped_term(r, out);
    else {
        if (!check_plain(r) || !read_character(r, &codepoint)) return false;
        *out = rx_ranges(r->rx, &(RxRange){codepoint, codepoint}, 1);
    }
    return true;
}

// ---- looks ahead ----

static uint32_t any_text(Reader *r) {
    static const RxRange all[] = {{0, UNICODE_MAX}};
    return rx_repeat(r->rx, rx_ranges(r->rx, all, 1), 0, RX_UNBOUNDED);
}

static bool read_alternative(Reader *r, Tail tail, uint32_t *out);

// Whether the texts that follow decide a look ahead themselves, whatever comes behind them: each of them has
// what is looked for, or cannot be gone on with to it.
static bool is_decided(Reader *r, const Lang *followed, const Lang *looked, bool *out) {
    Lang begun = *looked, undecided;
    uint8_t *all = arena_new_dirty(r->m->keep, uint8_t, looked->n_states);
    if (!all) return lang_no_memory(r->err);
    memset(all, 1, looked->n_states); // each state leads to an accepting one
    begun.accepts = all;
    if (!lang_combine(r->m, LANG_AND, followed, &begun, &undecided, r->err) ||
        !lang_combine(r->m, LANG_WITHOUT, &undecided, looked, &undecided, r->err))
        return false;
    *out = lang_is_empty(&undecided);
    return true;
}

// A look ahead outside of groups, or in one that ends the text, speaks of the whole rest of the text, as what
// follows it does: both are languages, whose product is what may follow `prefix`. The result goes to the end
// of the text.
static bool read_look_ahead(Reader *r, Tail tail, uint32_t prefix, uint32_t *out) {
    size_t start = r->at;
    bool negative = take(r, "(?!");
    if (!negative && !take(r, "(?=")) return false;
    bool is_at_start = r->rx->nodes[prefix].kind == RX_KIND_START ||
                       (prefix == RX_EMPTY && r->use != RX_SEARCHED && r->n_last == 0);
    uint32_t n_starts = r->n_starts, n_ends = r->n_ends, ahead, rest;
    Lang looked, followed, both;
    if (++r->depth > GROUP_DEPTH_MAX) return refuse(r, start, "groups nested too deeply");
    if (!read_alternatives(r, TAIL_NONE, &ahead)) return false;
    if (!take(r, ")")) return refuse(r, start, "a group without end");
    bool asks_for_end = r->n_ends > n_ends, decided = true;
    if (!read_alternative(r, tail, &rest)) return false;
    r->depth--;
    if (r->n_starts > n_starts && !is_at_start)
        return refuse(r, start, "a look ahead with ^ in or behind it");
    ahead = rx_cat(r->rx, ahead, any_text(r));
    if (!rx_compile(r->rx, ahead, r->m, &looked, r->err) || !rx_compile(r->rx, rest, r->m, &followed, r->err))
        return false;
    if (r->use == RX_PART && !is_decided(r, &followed, &looked, &decided)) return false;
    if (!decided || (r->use == RX_PART && asks_for_end))
        return refuse(r, start, "a look ahead that sees beyond the end of its terminal");
    if (!lang_combine(r->m, negative ? LANG_WITHOUT : LANG_AND, &followed, &looked, &both, r->err))
        return false;
    Lang *kept = arena_new(r->m->keep, Lang, 1);
    if (!kept) return lang_no_memory(r->err);
    *kept = both;
    *out = rx_cat(r->rx, prefix, rx_lang(r->rx, kept));
    return true;
}

// ---- groups that end the text ----

// The place behind the group that begins here, by its brackets.
static size_t find_group_end(const Reader *r) {
    bool in_class = false;
    uint32_t depth = 0;
    for (size_t at = r->at; at < r->pattern.len; at++) {
        char c = r->pattern.ptr[at];
        if (c == '\\') at++;
        else if (in_class) in_class = c != ']';
        else if (c == '[') in_class = true;
        else if (c == '(') depth++;
        else if (c == ')' && --depth == 0) return at + 1;
    }
    return r->pattern.len;
}

// Where nothing follows a group but a question mark and $, its alternatives end the text as the one around
// does: so they may look ahead. The place is at its bracket.
static Tail tail_of_group(const Reader *r, Tail tail) {
    size_t end = find_group_end(r);
    Str group = str_slice(r->pattern, r->at, end), behind = str_slice(r->pattern, end, r->pattern.len);
    bool looks = memmem(group.ptr, group.len, "(?=", 3) || memmem(group.ptr, group.len, "(?!", 3);
    if (!looks) return TAIL_NONE;
    for (int i = 0; i < 2 && str_starts_with(behind, STR("?")); i++)
        behind = str_slice(behind, 1, behind.len);
    bool ends = str_starts_with(behind, STR("$"));
    behind = str_slice(behind, ends, behind.len);
    bool is_last = behind.len == 0 || *behind.ptr == '|' || *behind.ptr == ')';
    return !is_last ? TAIL_NONE : ends ? TAIL_END : tail;
}

static uint32_t add_tail(Reader *r, Tail tail) {
    if (tail == TAIL_END) return rx_add_kind(r->rx, RX_KIND_END);
    return tail && r->use == RX_SEARCHED ? any_text(r) : RX_EMPTY;
}

static bool read_last_group(Reader *r, Tail tail, uint32_t prefix, uint32_t *out) {
    uint32_t group;
    if (!take(r, "(") || !read_group(r, tail, &group)) return false;
    bool is_optional = take(r, "??") || take(r, "?");
    take(r, "$"); // which is each alternative's tail then
    if (is_optional) group = rx_alt(r->rx, group, add_tail(r, tail));
    *out = rx_cat(r->rx, prefix, group);
    return true;
}

static bool read_alternative(Reader *r, Tail tail, uint32_t *out) {
    Row row = {0};
    while (!at_end(r) && !peek(r, '|') && !peek(r, ')')) {
        Str ahead = str_slice(r->pattern, r->at, r->pattern.len);
        bool looks = tail && (str_starts_with(ahead, STR("(?=")) || str_starts_with(ahead, STR("(?!")));
        Tail last = tail && !looks && peek(r, '(') ? tail_of_group(r, tail) : TAIL_NONE;
        if (looks || last) {
            uint32_t prefix = join_row(r->rx, rx_cat, row.parts, row.count);
            return looks ? read_look_ahead(r, tail, prefix, out) : read_last_group(r, last, prefix, out);
        }
        bool is_assertion = peek(r, '^') || peek(r, '$') || str_starts_with(ahead, STR("\\A")) ||
                            str_starts_with(ahead, STR("\\Z")); // of Python and others: the same without m
        uint32_t term;
        if (!read_term(r, &term) || !read_quantifier(r, is_assertion, &term) || !add_part(r, &row, term))
            return false;
    }
    if (!add_part(r, &row, add_tail(r, tail))) return false;
    *out = join_row(r->rx, rx_cat, row.parts, row.count);
    return check_room(r);
}

static bool read_alternatives(Reader *r, Tail tail, uint32_t *out) {
    Row row = {0};
    do {
        uint32_t one;
        if (!read_alternative(r, tail, &one) || !add_part(r, &row, one)) return false;
    } while (take(r, "|"));
    *out = join_row(r->rx, rx_alt, row.parts, row.count);
    return check_room(r);
}

bool rx_read_pattern(Rx *rx, Str pattern, RxUse use, LangMaker *m, uint32_t *out, Error *err) {
    Reader r = {.rx = rx, .m = m, .err = err, .pattern = pattern, .use = use};
    if (!read_alternatives(&r, TAIL_REST, out)) return false;
    if (!at_end(&r)) return refuse(&r, r.at, "a closing parenthesis without an opening one");
    if (use == RX_SEARCHED) *out = rx_cat(rx, any_text(&r), *out);
    return true;
}
