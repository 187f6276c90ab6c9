// Python's str, as far as templates call it.
#include "base/utf8.h"
#include "template/case_tables.h"
#include "template/functions.h"
#include "template/py_format.h"
#include "text/unicode.h"

bool arg_text(Run *run, Value v, const char *name, Text *out) {
    if (v.kind != V_STRING) return run_fail(run, "%s must be str, not %s", name, value_type_name(v));
    *out = *v.text;
    return true;
}

bool arg_integer(Run *run, Value v, const char *name, int64_t absent, int64_t *out) {
    *out = absent;
    if (is_absent(v)) return true;
    if (!value_is_integer(v)) return run_fail(run, "%s must be an integer, not %s", name, value_type_name(v));
    *out = value_integer(v);
    return true;
}

bool arg_truth(Value v, bool absent) {
    return is_absent(v) ? absent : value_truth(v);
}

// ---- characters ----

bool py_is_space(uint32_t c) {
    return unicode_is_space(c) || (c >= 0x1C && c <= 0x1F) || c == 0x85;
}

bool py_is_word(uint32_t c) {
    UnicodeCategory category = unicode_category(c);
    return category <= UNICODE_LO || (category >= UNICODE_ND && category <= UNICODE_NO) || c == '_';
}

static bool is_cased(uint32_t c) {
    UnicodeCategory category = unicode_category(c);
    return category == UNICODE_LU || category == UNICODE_LL || category == UNICODE_LT;
}

static bool is_letter(uint32_t c) {
    return unicode_category(c) <= UNICODE_LO;
}

static const CasePair *find_pair(const CasePair *pairs, size_t count, uint32_t c) {
    size_t low = 0;
    while (count > 0) {
        size_t half = count / 2;
        if (pairs[low + half].from == c) return &pairs[low + half];
        bool right = pairs[low + half].from < c;
        low += right ? half + 1 : 0;
        count = right ? count - half - 1 : half;
    }
    return NULL;
}

typedef enum { TO_LOWER, TO_UPPER, TO_TITLE, TO_FOLDED } CaseTarget;

// The characters that c becomes, at most three; returns how many.
static size_t change_character(uint32_t c, CaseTarget target, uint32_t out[3]) {
    out[0] = c;
    if (c < 0x80) {
        bool is_upper = c - 'A' < 26, is_lower = c - 'a' < 26;
        if (target == TO_LOWER ? is_upper : is_lower) out[0] = c ^ 0x20;
        return 1;
    }
    const CasePair *pairs = target == TO_LOWER ? case_lower : target == TO_UPPER ? case_upper : case_title;
    const CaseString *several = target == TO_LOWER   ? case_lower_several
                                : target == TO_UPPER ? case_upper_several
                                                     : case_title_several;
    uint32_t n_pairs = target == TO_LOWER   ? case_lower_count
                       : target == TO_UPPER ? case_upper_count
                                            : case_title_count;
    uint32_t n_several = target == TO_LOWER   ? case_lower_several_count
                         : target == TO_UPPER ? case_upper_several_count
                                              : case_title_several_count;
    const CasePair *pair = find_pair(pairs, n_pairs, c);
    if (pair) out[0] = pair->to;
    for (uint32_t i = 0; !pair && i < n_several; i++) {
        if (several[i].from != c) continue;
        size_t n = 0;
        for (; n < 3 && several[i].to[n]; n++)
            out[n] = several[i].to[n];
        return n;
    }
    return 1;
}

// Full case folding: the small letters of the capitals, but for Cherokee, which folds to capitals, the
// dotless i, which stays, and the capital sharp s, which is "ss".
static size_t fold_character(uint32_t c, uint32_t out[3]) {
    uint32_t upper[3], lower[3];
    bool is_cherokee = (c >= 0x13A0 && c <= 0x13FD) || (c >= 0xAB70 && c <= 0xABBF);
    out[0] = c;
    if (c == 0x131) return 1;
    size_t n_upper = change_character(c == 0x1E9E ? 0xDF : c, TO_UPPER, is_cherokee ? out : upper), n = 0;
    for (size_t i = 0; !is_cherokee && i < n_upper; i++) {
        size_t n_lower = change_character(upper[i], TO_LOWER, lower);
        for (size_t k = 0; k < n_lower && n < 3; k++)
            out[n++] = lower[k];
    }
    return is_cherokee ? n_upper : n;
}

// What the rule of the final sigma passes over (Unicode standard, 3.13): marks, and signs within words.
static bool is_case_ignorable(uint32_t c) {
    UnicodeCategory category = unicode_category(c);
    return category == UNICODE_MN || category == UNICODE_ME || category == UNICODE_CF ||
           category == UNICODE_LM || category == UNICODE_SK || c == '\'' || c == '.' || c == ':' ||
           c == 0xB7 || c == 0x2018 || c == 0x2019 || c == 0x2027;
}

// Whether a capital sigma at `at` ends a word, and so becomes a final one.
static bool is_final_sigma(Str s, size_t at, size_t length) {
    uint32_t c = 0;
    size_t before = at, step;
    while ((step = unicode_character_before(s, 0, before, &c)) && is_case_ignorable(c))
        before -= step;
    if (!step || !is_cased(c)) return false;
    size_t after = at + length;
    while ((step = utf8_decode(str_slice(s, after, s.len), &c)) && is_case_ignorable(c))
        after += step;
    return !step || !is_cased(c);
}

static CaseTarget target_of(CaseChange change, uint32_t c, bool first, bool after_cased) {
    switch (change) {
    case CASE_LOWER: return TO_LOWER;
    case CASE_UPPER: return TO_UPPER;
    case CASE_TITLE: return after_cased ? TO_LOWER : TO_TITLE;
    case CASE_CAPITALIZE: return first ? TO_TITLE : TO_LOWER;
    case CASE_FOLD: return TO_FOLDED;
    case CASE_SWAP: return unicode_category(c) == UNICODE_LU ? TO_LOWER : TO_UPPER;
    }
    return TO_LOWER;
}

bool text_change_case(Run *run, const Text *t, CaseChange change, Value *out) {
    Pieces p = {0};
    Str s = text_str(t);
    bool after_cased = false;
    uint32_t c, to[3];
    if (!run_steps(run, t->len / 3)) return false;
    for (size_t at = 0, length; at < s.len; at += length) {
        length = text_decode(t, at, &c);
        if (c >= 0x80) run_spend(run, 4); // looked up in tables
        CaseTarget target = target_of(change, c, at == 0, after_cased);
        size_t n = target == TO_FOLDED ? fold_character(c, to) : change_character(c, target, to);
        if (target == TO_LOWER && c == 0x3A3 && is_final_sigma(s, at, length)) to[0] = 0x3C2;
        after_cased = is_cased(c);
        if (n == 1 && to[0] == c) {
            if (!pieces_add(run, &p, text_slice(*t, at, at + length))) return false;
            continue;
        }
        char bytes[12];
        size_t size = 0;
        for (size_t i = 0; i < n; i++)
            size += utf8_encode(to[i], bytes + size);
        Str kept = arena_copy_str(run->arena, (Str){bytes, size});
        Origin origin = t->origins ? t->origins[at] : t->origin;
        if (!kept.ptr) return run_full(run);
        if (!pieces_add_str(run, &p, kept, origin)) return false;
    }
    return pieces_value(run, &p, out);
}

static bool is_stripped(uint32_t c, const Text *characters) {
    if (!characters) return py_is_space(c);
    uint32_t other;
    for (size_t at = 0, length; at < characters->len; at += length) {
        length = text_decode(characters, at, &other);
        if (other == c) return true;
    }
    return false;
}

Text text_strip(const Text *t, const Text *characters, bool left, bool right) {
    Str s = text_str(t);
    size_t from = 0, to = s.len, length;
    uint32_t c;
    while (left && (length = utf8_decode(str_slice(s, from, to), &c)) && is_stripped(c, characters))
        from += length;
    while (right && (length = unicode_character_before(s, from, to, &c)) && is_stripped(c, characters))
        to -= length;
    return text_slice(*t, from, to);
}

// Where `part` begins in t at or behind `from`; SIZE_MAX where it does not.
static size_t find_text(const Text *t, const Text *part, size_t from) {
    if (part->len > t->len - from) return SIZE_MAX;
    if (part->len == 0) return from;
    const char *found = memmem(t->ptr + from, t->len - from, part->ptr, part->len);
    return found ? (size_t)(found - t->ptr) : SIZE_MAX;
}

// *out: where `part` begins for the last time in the first `to` bytes of t, or SIZE_MAX. Each place where its
// first byte is takes the steps of a comparison.
static bool find_last(Run *run, const Text *t, const Text *part, size_t to, size_t *out) {
    *out = part->len ? SIZE_MAX : to;
    while (part->len && part->len <= to) {
        const char *first = memrchr(t->ptr, part->ptr[0], to - part->len + 1);
        if (!first) return true;
        size_t at = (size_t)(first - t->ptr);
        if (!run_steps(run, 1 + part->len / 64)) return false;
        if (memcmp(first, part->ptr, part->len) == 0) {
            *out = at;
            return true;
        }
        to = at + part->len - 1;
    }
    return true;
}

// The next character's end behind `at`.
static size_t next_character(const Text *t, size_t at) {
    for (at++; at < t->len && ((uint8_t)t->ptr[at] & 0xC0) == 0x80; at++)
        continue;
    return at;
}

bool text_replace(Run *run, const Text *t, const Text *from, const Text *to, int64_t count, Value *out) {
    Pieces p = {0};
    size_t at = 0;
    if (!run_steps(run, t->len / 64)) return false;
    for (int64_t done = 0; (count < 0 || done < count) && at <= t->len; done++) {
        size_t found = find_text(t, from, at);
        if (found == SIZE_MAX) break;
        if (!pieces_add(run, &p, text_slice(*t, at, found)) || !pieces_add(run, &p, *to)) return false;
        at = found + from->len;
        if (from->len > 0) continue;
        if (at == t->len) return pieces_value(run, &p, out);
        size_t end = next_character(t, at); // between all characters
        if (!pieces_add(run, &p, text_slice(*t, at, end))) return false;
        at = end;
    }
    return pieces_add(run, &p, text_slice(*t, at, t->len)) && pieces_value(run, &p, out);
}

// ---- changing case, padding, stripping ----

#define METHOD(name) static bool name(Run *run, Value self, const Value *bound, const Args *args, Value *out)
#define UNUSED_BOUND (void)bound, (void)args

METHOD(str_lower) {
    UNUSED_BOUND;
    return text_change_case(run, self.text, CASE_LOWER, out);
}

METHOD(str_casefold) {
    UNUSED_BOUND;
    return text_change_case(run, self.text, CASE_FOLD, out);
}

METHOD(str_upper) {
    UNUSED_BOUND;
    return text_change_case(run, self.text, CASE_UPPER, out);
}

METHOD(str_title) {
    UNUSED_BOUND;
    return text_change_case(run, self.text, CASE_TITLE, out);
}

METHOD(str_capitalize) {
    UNUSED_BOUND;
    return text_change_case(run, self.text, CASE_CAPITALIZE, out);
}

METHOD(str_swapcase) {
    UNUSED_BOUND;
    return text_change_case(run, self.text, CASE_SWAP, out);
}

bool arg_strip(Run *run, const Text *t, Value v, Text *out) {
    return arg_text(run, v, "the characters to strip", out) &&
           run_steps(run, t->len / 8 + t->len * (out->len / STEP_BYTES));
}

static bool strip(Run *run, Value self, Value characters, bool left, bool right, Value *out) {
    Text set;
    bool given = !is_absent(characters) && characters.kind != V_NONE;
    if (given && !arg_strip(run, self.text, characters, &set)) return false;
    return value_string(run, text_strip(self.text, given ? &set : NULL, left, right), out);
}

METHOD(str_strip) {
    (void)args;
    return strip(run, self, bound[0], true, true, out);
}

METHOD(str_lstrip) {
    (void)args;
    return strip(run, self, bound[0], true, false, out);
}

METHOD(str_rstrip) {
    (void)args;
    return strip(run, self, bound[0], false, true, out);
}

static bool pad(Run *run, Value self, const Value *bound, char side, Value *out) {
    int64_t width;
    Text fill = text_of(STR(" "), ORIGIN_TEMPLATE);
    if (!arg_integer(run, bound[0], "the width", 0, &width)) return false;
    if (!is_absent(bound[1]) && !arg_text(run, bound[1], "the fill character", &fill)) return false;
    if (text_characters(&fill) != 1)
        return run_fail(run, "The fill character must be exactly one character long");
    int64_t length = (int64_t)text_characters(self.text), left = width - length;
    if (left < 0) left = 0;
    if (left > 1000000) return run_fail(run, "a width that is too large");
    int64_t before = side == 'l' ? 0 : side == 'r' ? left : left / 2 + (left & width & 1);
    Pieces p = {0};
    for (int64_t i = 0; i <= left; i++) {
        if (i == before && !pieces_add(run, &p, *self.text)) return false;
        if (i < left && !pieces_add(run, &p, fill)) return false;
    }
    return pieces_value(run, &p, out);
}

METHOD(str_ljust) {
    (void)args;
    return pad(run, self, bound, 'l', out);
}

METHOD(str_rjust) {
    (void)args;
    return pad(run, self, bound, 'r', out);
}

METHOD(str_center) {
    (void)args;
    return pad(run, self, bound, 'c', out);
}

METHOD(str_zfill) {
    (void)args;
    bool has_sign = self.text->len && (self.text->ptr[0] == '-' || self.text->ptr[0] == '+');
    int64_t width, length = (int64_t)text_characters(self.text);
    if (!arg_integer(run, bound[0], "the width", 0, &width)) return false;
    if (width > 1000000) return run_fail(run, "a width that is too large");
    Pieces p = {0};
    if (!pieces_add(run, &p, text_slice(*self.text, 0, has_sign))) return false;
    for (int64_t i = length; i < width; i++) {
        if (!pieces_add_str(run, &p, STR("0"), ORIGIN_TEMPLATE)) return false;
    }
    return pieces_add(run, &p, text_slice(*self.text, has_sign, self.text->len)) &&
           pieces_value(run, &p, out);
}

// ---- finding ----

// [start, end) in bytes of what find, count, startswith, … look at. False where start is behind the end.
static bool window(Run *run, const Text *t, Value start, Value end, size_t *from, size_t *to, bool *empty) {
    int64_t count = (int64_t)text_characters(t), bounds[2] = {0, count};
    const Value given[2] = {start, end};
    for (int i = 0; i < 2; i++) {
        if (is_absent(given[i]) || given[i].kind == V_NONE) continue;
        if (!arg_integer(run, given[i], "a position", 0, &bounds[i])) return false;
        if (bounds[i] < 0) bounds[i] += count;
        if (bounds[i] < 0) bounds[i] = 0;
    }
    *empty = bounds[0] > count || bounds[0] > bounds[1];
    if (bounds[1] > count) bounds[1] = count;
    if (bounds[0] > bounds[1]) bounds[0] = bounds[1];
    *from = text_offset(t, (size_t)bounds[0]);
    *to = text_offset(t, (size_t)bounds[1]);
    return true;
}

static bool find(Run *run, Value self, const Value *bound, bool last, bool must, Value *out) {
    Text part;
    size_t from, to;
    bool empty;
    if (!arg_text(run, bound[0], "what is looked for", &part) || !run_steps(run, self.text->len / 64) ||
        !window(run, self.text, bound[1], bound[2], &from, &to, &empty)) {
        return false;
    }
    Text seen = text_slice(*self.text, from, to);
    size_t at = empty || last ? SIZE_MAX : find_text(&seen, &part, 0);
    if (last && !empty && !find_last(run, &seen, &part, seen.len, &at)) return false;
    if (at == SIZE_MAX && must) return run_fail(run, "substring not found");
    Text before = text_slice(*self.text, 0, at == SIZE_MAX ? 0 : from + at);
    *out = value_int(at == SIZE_MAX ? -1 : (int64_t)text_characters(&before));
    return true;
}

METHOD(str_find) {
    (void)args;
    return find(run, self, bound, false, false, out);
}

METHOD(str_rfind) {
    (void)args;
    return find(run, self, bound, true, false, out);
}

METHOD(str_index) {
    (void)args;
    return find(run, self, bound, false, true, out);
}

METHOD(str_rindex) {
    (void)args;
    return find(run, self, bound, true, true, out);
}

METHOD(str_count) {
    (void)args;
    Text part;
    size_t from, to;
    bool empty;
    if (!arg_text(run, bound[0], "what is counted", &part) || !run_steps(run, self.text->len / 64) ||
        !window(run, self.text, bound[1], bound[2], &from, &to, &empty)) {
        return false;
    }
    Text seen = text_slice(*self.text, from, to);
    int64_t n = 0;
    if (part.len == 0) n = empty ? 0 : (int64_t)text_characters(&seen) + 1;
    for (size_t at = 0; part.len && (at = find_text(&seen, &part, at)) != SIZE_MAX; at += part.len)
        n++;
    run_spend(run, (uint64_t)n / 4);
    *out = value_int(n);
    return true;
}

static bool has_end(Run *run, Value self, const Value *bound, bool at_start, Value *out) {
    size_t from, to;
    bool empty, found = false;
    if (!window(run, self.text, bound[1], bound[2], &from, &to, &empty)) return false;
    Str seen = {self.text->ptr + from, to - from};
    size_t n = bound[0].kind == V_TUPLE ? bound[0].list->count : 1;
    for (size_t i = 0; i < n; i++) {
        Text part;
        Value v = bound[0].kind == V_TUPLE ? bound[0].list->items[i] : bound[0];
        if (!arg_text(run, v, "what a text begins or ends with", &part) ||
            !run_steps(run, part.len / STEP_BYTES))
            return false;
        found |= !empty &&
                 (at_start ? str_starts_with(seen, text_str(&part)) : str_ends_with(seen, text_str(&part)));
    }
    *out = value_bool(found);
    return true;
}

METHOD(str_startswith) {
    (void)args;
    return has_end(run, self, bound, true, out);
}

METHOD(str_endswith) {
    (void)args;
    return has_end(run, self, bound, false, out);
}

METHOD(str_removeprefix) {
    (void)args;
    Text part;
    if (!arg_text(run, bound[0], "the prefix", &part)) return false;
    bool has = str_starts_with(text_str(self.text), text_str(&part));
    return value_string(run, text_slice(*self.text, has ? part.len : 0, self.text->len), out);
}

METHOD(str_removesuffix) {
    (void)args;
    Text part;
    if (!arg_text(run, bound[0], "the suffix", &part)) return false;
    bool has = part.len && str_ends_with(text_str(self.text), text_str(&part));
    return value_string(run, text_slice(*self.text, 0, self.text->len - (has ? part.len : 0)), out);
}

METHOD(str_replace) {
    (void)args;
    Text from, to;
    int64_t count;
    return arg_text(run, bound[0], "what is replaced", &from) &&
           arg_text(run, bound[1], "the replacement", &to) &&
           arg_integer(run, bound[2], "the count", -1, &count) &&
           text_replace(run, self.text, &from, &to, count, out);
}

// ---- splitting and joining ----

// A list of texts that grows at either end, as pieces in order.
static bool list_of_pieces(Run *run, const Pieces *p, size_t count, bool reversed, Value *out) {
    if (!value_list(run, V_LIST, count, out)) return false;
    size_t i = 0;
    for (const Piece *piece = p->first; piece; piece = piece->next, i++) {
        if (!value_string(run, piece->text, &out->list->items[reversed ? count - 1 - i : i])) return false;
    }
    return true;
}

static bool put_part(Run *run, Pieces *p, size_t *count, Text text) {
    ++*count;
    return pieces_append(run, p, text);
}

static size_t skip_spaces(const Text *t, size_t at, bool spaces) {
    uint32_t c;
    for (size_t length; at < t->len && (length = text_decode(t, at, &c)) && py_is_space(c) == spaces;)
        at += length;
    return at;
}

static size_t skip_spaces_back(const Text *t, size_t at, bool spaces) {
    uint32_t c;
    for (size_t length;
         (length = unicode_character_before(text_str(t), 0, at, &c)) && py_is_space(c) == spaces;)
        at -= length;
    return at;
}

static bool split_spaces(Run *run, const Text *t, int64_t most, bool from_end, Value *out) {
    Pieces p = {0};
    size_t count = 0, at = from_end ? skip_spaces_back(t, t->len, true) : skip_spaces(t, 0, true);
    while (from_end ? at > 0 : at < t->len) {
        bool is_last = most >= 0 && (int64_t)count == most;
        size_t end = is_last    ? (from_end ? 0 : t->len)
                     : from_end ? skip_spaces_back(t, at, false)
                                : skip_spaces(t, at, false);
        Text part = from_end ? text_slice(*t, end, at) : text_slice(*t, at, end);
        if (is_last) part = text_strip(&part, NULL, from_end, !from_end && false);
        if (!put_part(run, &p, &count, part)) return false;
        at = from_end ? skip_spaces_back(t, end, true) : skip_spaces(t, end, true);
    }
    return list_of_pieces(run, &p, count, from_end, out);
}

static bool split_by(Run *run, const Text *t, const Text *separator, int64_t most, bool from_end,
                     Value *out) {
    Pieces p = {0};
    size_t count = 0, from = 0, to = t->len;
    while (most < 0 || (int64_t)count < most) {
        size_t found = from_end ? SIZE_MAX : find_text(t, separator, from);
        if (from_end && !find_last(run, t, separator, to, &found)) return false;
        if (found == SIZE_MAX) break;
        Text part = from_end ? text_slice(*t, found + separator->len, to) : text_slice(*t, from, found);
        if (!put_part(run, &p, &count, part)) return false;
        if (from_end) to = found;
        else from = found + separator->len;
    }
    return put_part(run, &p, &count, text_slice(*t, from, to)) &&
           list_of_pieces(run, &p, count, from_end, out);
}

static bool split(Run *run, Value self, const Value *bound, bool from_end, Value *out) {
    int64_t most;
    Text separator;
    if (!arg_integer(run, bound[1], "maxsplit", -1, &most) || !run_steps(run, self.text->len / 64))
        return false;
    if (is_absent(bound[0]) || bound[0].kind == V_NONE)
        return split_spaces(run, self.text, most, from_end, out);
    if (!arg_text(run, bound[0], "the separator", &separator)) return false;
    if (separator.len == 0) return run_fail(run, "empty separator");
    return split_by(run, self.text, &separator, most, from_end, out);
}

METHOD(str_split) {
    (void)args;
    return split(run, self, bound, false, out);
}

METHOD(str_rsplit) {
    (void)args;
    return split(run, self, bound, true, out);
}

// The length of the line end at `at`: \r\n, or one of Python's line boundaries.
static size_t line_end(const Text *t, size_t at) {
    uint32_t c;
    size_t length = text_decode(t, at, &c);
    if (c == '\r' && at + 1 < t->len && t->ptr[at + 1] == '\n') return 2;
    bool ends =
        (c >= '\n' && c <= '\r') || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
    return ends ? length : 0;
}

METHOD(str_splitlines) {
    (void)args;
    bool keep_ends = arg_truth(bound[0], false);
    Pieces p = {0};
    size_t count = 0, from = 0;
    if (!run_steps(run, self.text->len / 16)) return false;
    for (size_t at = 0; at < self.text->len;) {
        size_t end = line_end(self.text, at), next = end ? at + end : next_character(self.text, at);
        if (end && !put_part(run, &p, &count, text_slice(*self.text, from, keep_ends ? next : at)))
            return false;
        if (end) from = next;
        at = next;
    }
    if (from < self.text->len && !put_part(run, &p, &count, text_slice(*self.text, from, self.text->len)))
        return false;
    return list_of_pieces(run, &p, count, false, out);
}

static bool partition(Run *run, Value self, Value by, bool last, Value *out) {
    Text separator, nothing = text_of(STR(""), ORIGIN_TEMPLATE);
    const Text *t = self.text;
    if (!arg_text(run, by, "the separator", &separator)) return false;
    if (separator.len == 0) return run_fail(run, "empty separator");
    size_t at = last ? SIZE_MAX : find_text(t, &separator, 0);
    if (last && !find_last(run, t, &separator, t->len, &at)) return false;
    Text parts[3] = {*t, nothing, nothing};
    if (at == SIZE_MAX && last) {
        parts[0] = nothing;
        parts[2] = *t;
    } else if (at != SIZE_MAX) {
        parts[0] = text_slice(*t, 0, at);
        parts[1] = separator;
        parts[2] = text_slice(*t, at + separator.len, t->len);
    }
    if (!value_list(run, V_TUPLE, 3, out)) return false;
    for (int i = 0; i < 3; i++) {
        if (!value_string(run, parts[i], &out->list->items[i])) return false;
    }
    return true;
}

METHOD(str_partition) {
    (void)args;
    return partition(run, self, bound[0], false, out);
}

METHOD(str_rpartition) {
    (void)args;
    return partition(run, self, bound[0], true, out);
}

METHOD(str_join) {
    (void)args;
    const List *list;
    Pieces p = {0};
    if (!value_iterate(run, bound[0], &list)) return false;
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i].kind != V_STRING)
            return run_fail(run, "sequence item %zu: expected str instance, %s found", i,
                            value_type_name(list->items[i]));
        if ((i && !pieces_add(run, &p, *self.text)) || !pieces_add(run, &p, *list->items[i].text))
            return false;
    }
    return pieces_value(run, &p, out);
}

METHOD(str_expandtabs) {
    (void)args;
    int64_t size, column = 0;
    Pieces p = {0};
    if (!arg_integer(run, bound[0], "tabsize", 8, &size)) return false;
    if (size > 1000) return run_fail(run, "a tab that is too wide");
    for (size_t at = 0, end; at < self.text->len; at = end) {
        end = next_character(self.text, at);
        char c = self.text->ptr[at];
        int64_t spaces = c == '\t' && size > 0 ? size - column % size : 0;
        for (int64_t i = 0; i < spaces; i++) {
            if (!pieces_add_str(run, &p, STR(" "), text_derived(self.text))) return false;
        }
        column = c == '\n' || c == '\r' ? 0 : column + (c == '\t' ? spaces : 1);
        if (c != '\t' && !pieces_add(run, &p, text_slice(*self.text, at, end))) return false;
    }
    return pieces_value(run, &p, out);
}

METHOD(str_format) {
    (void)bound;
    List list = {.items = (Value *)(uintptr_t)args->items, .count = args->count};
    return py_format_braces(run, self.text, &list, args->kwargs, out);
}

// ---- asking ----

// Whether all characters, at least one, are so.
static bool all_are(const Text *t, bool (*is)(uint32_t c)) {
    uint32_t c;
    for (size_t at = 0, length; at < t->len; at += length) {
        length = text_decode(t, at, &c);
        if (!is(c)) return false;
    }
    return t->len > 0;
}

static bool is_decimal(uint32_t c) {
    return unicode_category(c) == UNICODE_ND;
}

// Decimal digits, and those that are raised, lowered or in circles.
static bool is_digit(uint32_t c) {
    static const uint32_t runs[][2] = {
        {0xB2, 0xB3},     {0xB9, 0xB9},     {0x1369, 0x1371}, {0x19DA, 0x19DA},
        {0x2070, 0x2070}, {0x2074, 0x2079}, {0x2080, 0x2089}, {0x2460, 0x2468},
        {0x2474, 0x247C}, {0x2488, 0x2490}, {0x24EA, 0x24EA}, {0x24F5, 0x24FD},
        {0x24FF, 0x24FF}, {0x2776, 0x277E}, {0x2780, 0x2788}, {0x278A, 0x2792}};
    for (size_t i = 0; i < COUNT_OF(runs); i++) {
        if (c >= runs[i][0] && c <= runs[i][1]) return true;
    }
    return is_decimal(c);
}

static bool is_numeric(uint32_t c) {
    UnicodeCategory category = unicode_category(c);
    return category == UNICODE_ND || category == UNICODE_NL || category == UNICODE_NO;
}

static bool is_alphanumeric(uint32_t c) {
    return is_letter(c) || is_numeric(c);
}

static bool is_ascii(uint32_t c) {
    return c < 0x80;
}

#define STR_IS(name, is)                           \
    METHOD(name) {                                 \
        UNUSED_BOUND;                              \
        run_spend(run, self.text->len / 8);        \
        *out = value_bool(all_are(self.text, is)); \
        return true;                               \
    }

STR_IS(str_isalpha, is_letter)
STR_IS(str_isdecimal, is_decimal)
STR_IS(str_isdigit, is_digit)
STR_IS(str_isnumeric, is_numeric)
STR_IS(str_isalnum, is_alphanumeric)
STR_IS(str_isspace, py_is_space)

METHOD(str_isascii) {
    UNUSED_BOUND;
    run_spend(run, self.text->len / 8);
    *out = value_bool(self.text->len == 0 || all_are(self.text, is_ascii));
    return true;
}

// At least one character has case, and none has the other one.
static bool is_of_case(const Text *t, UnicodeCategory wanted) {
    bool found = false;
    uint32_t c;
    for (size_t at = 0, length; at < t->len; at += length) {
        length = text_decode(t, at, &c);
        if ((is_cased(c) && unicode_category(c) != wanted)) return false;
        found |= is_cased(c);
    }
    return found;
}

METHOD(str_islower) {
    UNUSED_BOUND;
    run_spend(run, self.text->len / 8);
    *out = value_bool(is_of_case(self.text, UNICODE_LL));
    return true;
}

METHOD(str_isupper) {
    UNUSED_BOUND;
    run_spend(run, self.text->len / 8);
    *out = value_bool(is_of_case(self.text, UNICODE_LU));
    return true;
}

METHOD(str_istitle) {
    UNUSED_BOUND;
    run_spend(run, self.text->len / 8);
    bool found = false, ok = true, after = false;
    uint32_t c;
    for (size_t at = 0, length; ok && at < self.text->len; at += length) {
        length = text_decode(self.text, at, &c);
        bool is_lower = unicode_category(c) == UNICODE_LL;
        if (is_cased(c)) ok = is_lower == after;
        found |= is_cased(c);
        after = is_cased(c);
    }
    *out = value_bool(found && ok);
    return true;
}

const Function STR_METHODS[] = {
    {"capitalize", str_capitalize, "", 0, MARKUP_KEPT},
    {"casefold", str_casefold, "", 0, MARKUP_KEPT},
    {"center", str_center, "width fillchar", 1, MARKUP_ESCAPES_SECOND},
    {"count", str_count, "sub start end", 1, MARKUP_LOST},
    {"endswith", str_endswith, "suffix start end", 1, MARKUP_LOST},
    {"expandtabs", str_expandtabs, "tabsize", 0, MARKUP_KEPT},
    {"find", str_find, "sub start end", 1, MARKUP_LOST},
    {"format", str_format, "*", 0, MARKUP_ESCAPES_ALL},
    {"index", str_index, "sub start end", 1, MARKUP_LOST},
    {"isalnum", str_isalnum, "", 0, MARKUP_LOST},
    {"isalpha", str_isalpha, "", 0, MARKUP_LOST},
    {"isascii", str_isascii, "", 0, MARKUP_LOST},
    {"isdecimal", str_isdecimal, "", 0, MARKUP_LOST},
    {"isdigit", str_isdigit, "", 0, MARKUP_LOST},
    {"islower", str_islower, "", 0, MARKUP_LOST},
    {"isnumeric", str_isnumeric, "", 0, MARKUP_LOST},
    {"isspace", str_isspace, "", 0, MARKUP_LOST},
    {"istitle", str_istitle, "", 0, MARKUP_LOST},
    {"isupper", str_isupper, "", 0, MARKUP_LOST},
    {"join", str_join, "iterable", 1, MARKUP_ESCAPES_ALL},
    {"ljust", str_ljust, "width fillchar", 1, MARKUP_ESCAPES_SECOND},
    {"lower", str_lower, "", 0, MARKUP_KEPT},
    {"lstrip", str_lstrip, "chars", 0, MARKUP_KEPT},
    {"partition", str_partition, "sep", 1, MARKUP_KEPT},
    {"removeprefix", str_removeprefix, "prefix", 1, MARKUP_KEPT},
    {"removesuffix", str_removesuffix, "suffix", 1, MARKUP_KEPT},
    {"replace", str_replace, "old new count", 2, MARKUP_ESCAPES_SECOND},
    {"rfind", str_rfind, "sub start end", 1, MARKUP_LOST},
    {"rindex", str_rindex, "sub start end", 1, MARKUP_LOST},
    {"rjust", str_rjust, "width fillchar", 1, MARKUP_ESCAPES_SECOND},
    {"rpartition", str_rpartition, "sep", 1, MARKUP_KEPT},
    {"rsplit", str_rsplit, "sep maxsplit", 0, MARKUP_KEPT},
    {"rstrip", str_rstrip, "chars", 0, MARKUP_KEPT},
    {"split", str_split, "sep maxsplit", 0, MARKUP_KEPT},
    {"splitlines", str_splitlines, "keepends", 0, MARKUP_KEPT},
    {"startswith", str_startswith, "prefix start end", 1, MARKUP_LOST},
    {"strip", str_strip, "chars", 0, MARKUP_KEPT},
    {"swapcase", str_swapcase, "", 0, MARKUP_KEPT},
    {"title", str_title, "", 0, MARKUP_KEPT},
    {"upper", str_upper, "", 0, MARKUP_KEPT},
    {"zfill", str_zfill, "width", 1, MARKUP_KEPT},
    {NULL, NULL, NULL, 0, MARKUP_LOST},
};
