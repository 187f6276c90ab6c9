// Sets of characters in a pattern: escapes, properties, and classes in brackets.
#include "base/utf8.h"
#include "text/regex_internal.h"

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
    const char *name;
    uint32_t categories;
} properties[] = {
    {"L", LETTERS},
    {"Letter", LETTERS},
    {"Lu", CATEGORY(LU)},
    {"UppercaseLetter", CATEGORY(LU)},
    {"Ll", CATEGORY(LL)},
    {"LowercaseLetter", CATEGORY(LL)},
    {"Lt", CATEGORY(LT)},
    {"TitlecaseLetter", CATEGORY(LT)},
    {"Lm", CATEGORY(LM)},
    {"ModifierLetter", CATEGORY(LM)},
    {"Lo", CATEGORY(LO)},
    {"OtherLetter", CATEGORY(LO)},
    {"M", MARKS},
    {"Mark", MARKS},
    {"Mn", CATEGORY(MN)},
    {"NonspacingMark", CATEGORY(MN)},
    {"Mc", CATEGORY(MC)},
    {"SpacingMark", CATEGORY(MC)},
    {"Me", CATEGORY(ME)},
    {"EnclosingMark", CATEGORY(ME)},
    {"N", NUMBERS},
    {"Number", NUMBERS},
    {"Nd", CATEGORY(ND)},
    {"DecimalNumber", CATEGORY(ND)},
    {"Nl", CATEGORY(NL)},
    {"LetterNumber", CATEGORY(NL)},
    {"No", CATEGORY(NO)},
    {"OtherNumber", CATEGORY(NO)},
    {"P", DASHES_AND_SUCH | BRACKETS},
    {"Punctuation", DASHES_AND_SUCH | BRACKETS},
    {"Pc", CATEGORY(PC)},
    {"ConnectorPunctuation", CATEGORY(PC)},
    {"Pd", CATEGORY(PD)},
    {"DashPunctuation", CATEGORY(PD)},
    {"Ps", CATEGORY(PS)},
    {"OpenPunctuation", CATEGORY(PS)},
    {"Pe", CATEGORY(PE)},
    {"ClosePunctuation", CATEGORY(PE)},
    {"Pi", CATEGORY(PI)},
    {"InitialPunctuation", CATEGORY(PI)},
    {"Pf", CATEGORY(PF)},
    {"FinalPunctuation", CATEGORY(PF)},
    {"Po", CATEGORY(PO)},
    {"OtherPunctuation", CATEGORY(PO)},
    {"S", SYMBOLS},
    {"Symbol", SYMBOLS},
    {"Sm", CATEGORY(SM)},
    {"MathSymbol", CATEGORY(SM)},
    {"Sc", CATEGORY(SC)},
    {"CurrencySymbol", CATEGORY(SC)},
    {"Sk", CATEGORY(SK)},
    {"ModifierSymbol", CATEGORY(SK)},
    {"So", CATEGORY(SO)},
    {"OtherSymbol", CATEGORY(SO)},
    {"Z", SEPARATORS},
    {"Separator", SEPARATORS},
    {"Zs", CATEGORY(ZS)},
    {"SpaceSeparator", CATEGORY(ZS)},
    {"Zl", CATEGORY(ZL)},
    {"LineSeparator", CATEGORY(ZL)},
    {"Zp", CATEGORY(ZP)},
    {"ParagraphSeparator", CATEGORY(ZP)},
    {"C", OTHERS},
    {"Other", OTHERS},
    {"Cc", CONTROLS},
    {"Control", CONTROLS},
    {"Cf", CATEGORY(CF)},
    {"Format", CATEGORY(CF)},
    {"Cs", CATEGORY(CS)},
    {"Surrogate", CATEGORY(CS)},
    {"Co", CATEGORY(CO)},
    {"PrivateUse", CATEGORY(CO)},
    {"Cn", CATEGORY(CN)},
    {"Unassigned", CATEGORY(CN)},
};

// ---- sets ----

bool regex_new_set(RegexParser *p, CharSet *set) {
    set->masks = arena_new(p->arena, uint32_t, p->tree->n_intervals);
    return set->masks ? true : regex_full(p);
}

void regex_invert(const RegexParser *p, CharSet *set) {
    for (uint32_t i = 0; i < p->tree->n_intervals; i++)
        set->masks[i] = ~set->masks[i];
}

void regex_join(const RegexParser *p, CharSet *set, const CharSet *other) {
    for (uint32_t i = 0; i < p->tree->n_intervals; i++)
        set->masks[i] |= other->masks[i];
}

static void add_categories(const RegexParser *p, CharSet *set, uint32_t categories) {
    for (uint32_t i = 0; i < p->tree->n_intervals; i++)
        set->masks[i] |= categories;
}

bool regex_add_bound(RegexParser *p, uint32_t first) {
    RegexTree *t = p->tree;
    uint64_t bit = 1ull << (first % 64);
    if (p->known_bounds[first / 64] & bit) return true;
    if (p->n_bounds == REGEX_BOUNDS_MAX) return regex_refuse(p, p->at, "too many characters and ranges");
    p->known_bounds[first / 64] |= bit;
    t->bounds[p->n_bounds++] = first;
    return true;
}

// The first interval that begins at `first` or later.
static uint32_t find_interval(const RegexTree *t, uint32_t first) {
    uint32_t low = 0, high = t->n_intervals;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (t->bounds[middle] < first) low = middle + 1;
        else high = middle;
    }
    return low;
}

static bool add_plain_range(RegexParser *p, CharSet *set, uint32_t first, uint32_t last) {
    const RegexTree *t = p->tree;
    if (p->collecting)
        return regex_add_bound(p, first) && (last == UNICODE_MAX || regex_add_bound(p, last + 1));
    for (uint32_t i = find_interval(t, first); i < t->n_intervals && t->bounds[i] <= last; i++)
        set->masks[i] = UINT32_MAX;
    return true;
}

// With (?i: each ASCII letter brings its other case, and s and k the two characters beyond ASCII that fold to
// them (Unicode's CaseFolding.txt, status C).
bool regex_add_range(RegexParser *p, CharSet *set, uint32_t first, uint32_t last) {
    if (!add_plain_range(p, set, first, last)) return false;
    if (!p->ignore_case) return true;
    if (last >= 128) return regex_refuse(p, p->at, "case-insensitive characters beyond ASCII");
    for (uint32_t c = first; c <= last; c++) {
        uint32_t lower = c | 32;
        if (lower < 'a' || lower > 'z') continue;
        if (!add_plain_range(p, set, c ^ 32, c ^ 32)) return false;
        if (lower == 's' && !add_plain_range(p, set, 0x17F, 0x17F)) return false;
        if (lower == 'k' && !add_plain_range(p, set, 0x212A, 0x212A)) return false;
    }
    return true;
}

static bool add_white_space(RegexParser *p, CharSet *set) {
    add_categories(p, set, SEPARATORS | CATEGORY(NEXT_LINE));
    return add_plain_range(p, set, '\t', '\r');
}

// \w as Oniguruma has it: letters, marks, decimal and letter numbers and connecting punctuation; of others
// the letters in circles and squares; and, but not within brackets, the fractions and small digits of
// Latin-1.
bool regex_add_word(RegexParser *p, CharSet *set) {
    static const uint32_t ranges[][2] = {{0x24B6, 0x24E9},   {0x1F130, 0x1F149}, {0x1F150, 0x1F169},
                                         {0x1F170, 0x1F189}, {0xB2, 0xB3},       {0xB9, 0xB9},
                                         {0xBC, 0xBE}};
    const size_t n_within_brackets = 4;
    add_categories(p, set, LETTERS | MARKS | CATEGORY(ND) | CATEGORY(NL) | CATEGORY(PC));
    for (size_t i = 0; i < (p->class_depth ? n_within_brackets : COUNT_OF(ranges)); i++) {
        if (!add_plain_range(p, set, ranges[i][0], ranges[i][1])) return false;
    }
    return true;
}

// ---- properties ----

// Names are the same whatever their case, and with or without spaces, hyphens and underscores.
static bool same_name(Str name, const char *plain) {
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        if (c == ' ' || c == '-' || c == '_') continue;
        char lower = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
        if (!*plain || lower != (*plain >= 'A' && *plain <= 'Z' ? *plain + 32 : *plain)) return false;
        plain++;
    }
    return *plain == 0;
}

// Within (?i: a class also has the other cases of what is in it. Only whole groups such as \p{L} have them.
static bool refuse_folding(RegexParser *p) {
    return regex_refuse(p, p->at, "case-insensitive property or operation");
}

bool regex_find_property(Str name, uint32_t *categories, const UnicodeSet **set) {
    *categories = 0;
    *set = NULL;
    for (size_t i = 0; i < COUNT_OF(properties); i++) {
        if (!same_name(name, properties[i].name)) continue;
        *categories = properties[i].categories;
        return true;
    }
    for (uint32_t i = 0; i < unicode_set_count; i++) {
        if (!same_name(name, unicode_sets[i].name)) continue;
        *set = &unicode_sets[i];
        return true;
    }
    return false;
}

// Adds a property of this name to the set; *known is false where there is none.
static bool add_property(RegexParser *p, Str name, CharSet *set, bool *known) {
    uint32_t categories;
    const UnicodeSet *s;
    *known = true;
    if (same_name(name, "word")) return regex_add_word(p, set);
    *known = regex_find_property(name, &categories, &s);
    if (!*known) return true;
    if (p->ignore_case && (s || name.len > 1)) return refuse_folding(p);
    add_categories(p, set, categories);
    for (uint32_t k = 0; s && k < s->count; k++) {
        const UnicodeRange *r = &unicode_ranges[s->first + k];
        if (!add_plain_range(p, set, r->first, r->last)) return false;
    }
    return true;
}

static bool parse_property(RegexParser *p, CharSet *set) {
    size_t start = p->at;
    bool known;
    if (!regex_take(p, "{")) return regex_refuse(p, start, "property without braces");
    bool inverted = regex_take(p, "^");
    size_t from = p->at;
    while (p->at < p->pattern.len && p->pattern.ptr[p->at] != '}')
        p->at++;
    Str name = str_slice(p->pattern, from, p->at);
    if (!regex_take(p, "}")) return regex_refuse(p, start, "property without end");
    if (!add_property(p, name, set, &known)) return false;
    if (inverted) regex_invert(p, set);
    return known || regex_refuse(p, start, "unknown or unsupported property");
}

// [:name:] within brackets, behind its beginning.
static bool parse_posix_class(RegexParser *p, size_t start, CharSet *set) {
    static const char *const names[] = {"alnum", "alpha", "ascii", "blank", "cntrl", "digit",  "graph",
                                        "lower", "print", "punct", "space", "upper", "xdigit", "word"};
    CharSet part;
    bool inverted = regex_take(p, "^"), known = false;
    if (!regex_new_set(p, &part)) return false;
    for (size_t i = 0; i < COUNT_OF(names) && !known; i++) {
        if (!regex_take(p, names[i])) continue;
        // Symbols of ASCII are punctuation here, and not elsewhere.
        Str name = strcmp(names[i], "punct") == 0 ? STR("posixpunct") : str_from_c(names[i]);
        if (!add_property(p, name, &part, &known)) return false;
    }
    if (!known || !regex_take(p, ":]")) return regex_refuse(p, start, "unsupported POSIX class");
    if (inverted) regex_invert(p, &part);
    regex_join(p, set, &part);
    return true;
}

// ---- escapes ----

static bool parse_hex(RegexParser *p, size_t digits_min, size_t digits_max, uint32_t *out) {
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
    if (n < digits_min || value > UNICODE_MAX) return regex_refuse(p, p->at, "bad hexadecimal escape");
    *out = value;
    return true;
}

static bool parse_escaped_set(RegexParser *p, char c, CharSet *set) {
    CharSet part;
    bool ok = true;
    if (!regex_new_set(p, &part)) return false;
    switch (c | 32) {
    case 'p': ok = parse_property(p, &part); break;
    case 's': ok = add_white_space(p, &part); break;
    case 'w': ok = regex_add_word(p, &part); break;
    default: add_categories(p, &part, CATEGORY(ND));
    }
    if (c < 'a') regex_invert(p, &part);
    regex_join(p, set, &part);
    return ok;
}

bool regex_parse_escape(RegexParser *p, CharSet *set, bool *is_set, uint32_t *codepoint) {
    size_t start = p->at - 1;
    if (p->at == p->pattern.len) return regex_refuse(p, start, "backslash at the end");
    char c = p->pattern.ptr[p->at++];
    *is_set = false;
    switch (c) {
    case 'r': *codepoint = '\r'; return true;
    case 'n': *codepoint = '\n'; return true;
    case 't': *codepoint = '\t'; return true;
    case 'v': *codepoint = '\v'; return true;
    case 'f': *codepoint = '\f'; return true;
    case 'u': return parse_hex(p, 4, 4, codepoint);
    case 'x':
        if (!regex_take(p, "{")) return parse_hex(p, 1, 2, codepoint);
        return parse_hex(p, 1, 6, codepoint) &&
               (regex_take(p, "}") || regex_refuse(p, start, "bad hexadecimal escape"));
    case 's':
    case 'S':
    case 'w':
    case 'W':
    case 'd':
    case 'D':
    case 'p':
    case 'P': *is_set = true; return parse_escaped_set(p, c, set);
    default: break;
    }
    if ((uint8_t)c >= 128 || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z'))
        return regex_refuse(p, start, "unsupported escape");
    *codepoint = (uint8_t)c;
    return true;
}

bool regex_parse_character(RegexParser *p, uint32_t *codepoint) {
    size_t length = utf8_decode(str_slice(p->pattern, p->at, p->pattern.len), codepoint);
    if (!length) return regex_refuse(p, p->at, "invalid UTF-8");
    p->at += length;
    return true;
}

// ---- classes ----

// What an item of a class was: Oniguruma reads hyphens behind it accordingly.
typedef enum { ITEM_NONE, ITEM_CHARACTER, ITEM_SET, ITEM_RANGE, ITEM_CLASS } ItemKind;

static bool parse_class_character(RegexParser *p, CharSet *set, bool *is_set, uint32_t *codepoint) {
    if (regex_take(p, "\\b")) {
        *codepoint = '\b';
        return true;
    }
    return regex_take(p, "\\") ? regex_parse_escape(p, set, is_set, codepoint)
                               : regex_parse_character(p, codepoint);
}

// One character, range, escape or nested class within brackets.
static bool parse_class_item(RegexParser *p, CharSet *set, ItemKind *kind) {
    size_t start = p->at;
    uint32_t first, last;
    bool is_set = false;
    *kind = ITEM_CLASS;
    if (regex_take(p, "[:")) {
        *kind = ITEM_SET;
        return parse_posix_class(p, start, set);
    }
    if (regex_take(p, "[")) {
        CharSet nested;
        if (!regex_parse_class(p, &nested)) return false;
        regex_join(p, set, &nested);
        return true;
    }
    if (!parse_class_character(p, set, &is_set, &first)) return false;
    *kind = is_set ? ITEM_SET : ITEM_CHARACTER;
    Str rest = str_slice(p->pattern, p->at, p->pattern.len);
    if (is_set) return true;
    last = first;
    if (rest.len >= 2 && rest.ptr[0] == '-' && rest.ptr[1] != ']' && !(rest.ptr[1] == '-' && first > '-')) {
        *kind = ITEM_RANGE;
        p->at++;
        if (regex_peek(p, '[')) return regex_refuse(p, start, "range to a class");
        if (!parse_class_character(p, set, &is_set, &last)) return false;
        if (is_set || last < first) return regex_refuse(p, start, "bad range");
    }
    return regex_add_range(p, set, first, last);
}

typedef enum { CLASS_JOIN, CLASS_AND, CLASS_WITHOUT } ClassOperation;

// Ends an operand: what was collected in `part` changes `all`.
static void apply_operand(const RegexParser *p, ClassOperation operation, CharSet *all, CharSet *part) {
    for (uint32_t i = 0; i < p->tree->n_intervals; i++) {
        uint32_t mask = part->masks[i];
        part->masks[i] = 0;
        if (operation == CLASS_JOIN) all->masks[i] |= mask;
        else all->masks[i] &= operation == CLASS_AND ? mask : ~mask;
    }
}

// "--" is a difference, as in Rust's regular expressions, where Oniguruma sees an error, which is behind a
// character or an escape that is a set; elsewhere both hyphens are characters, as Oniguruma has it.
bool regex_parse_class(RegexParser *p, CharSet *out) {
    size_t start = p->at - 1;
    if (++p->depth > REGEX_GROUP_DEPTH_MAX) return regex_refuse(p, start, "nested too deeply");
    p->class_depth++;
    bool inverted = regex_take(p, "^");
    if (inverted && p->class_depth > 1 && p->ignore_case) return refuse_folding(p);
    if (regex_peek(p, ']')) return regex_refuse(p, start, "empty class");
    CharSet part;
    ClassOperation operation = CLASS_JOIN;
    ItemKind last = ITEM_NONE;
    if (!regex_new_set(p, out) || !regex_new_set(p, &part)) return false;
    while (!regex_take(p, "]")) {
        if (p->at == p->pattern.len) return regex_refuse(p, start, "class without end");
        bool is_and = regex_take(p, "&&");
        if (is_and || ((last == ITEM_CHARACTER || last == ITEM_SET) && regex_take(p, "--"))) {
            if (p->ignore_case) return refuse_folding(p);
            apply_operand(p, operation, out, &part);
            operation = is_and ? CLASS_AND : CLASS_WITHOUT;
            last = ITEM_NONE;
            if (!is_and && regex_peek(p, ']')) return regex_refuse(p, start, "bad range");
        } else if (last == ITEM_SET && regex_peek(p, '-') && p->at + 1 < p->pattern.len &&
                   p->pattern.ptr[p->at + 1] != ']') {
            return regex_refuse(p, start, "range from a class");
        } else if (!parse_class_item(p, &part, &last)) {
            return false;
        }
    }
    apply_operand(p, operation, out, &part);
    if (inverted) regex_invert(p, out);
    p->class_depth--;
    p->depth--;
    return true;
}
