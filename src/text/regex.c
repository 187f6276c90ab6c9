#include "text/regex_internal.h"

#include "base/utf8.h"

// A text on which matching forward looks at more than this for each byte, and some to begin with, is finished
// in two passes. (Prose takes 1.1 to 1.4 with the published patterns.)
enum { REGEX_LOOKS_A_BYTE = 8, REGEX_LOOKS_AT_FIRST = 512 };

enum { NOTE_LENGTH_BITS = 8 }; // of a character, 0 for its second byte and on; above: symbol, then state

// The class of the character at `at` beyond ASCII, and its length.
static uint32_t class_beyond_ascii(const Regex *re, Str text, size_t at, size_t *length) {
    uint32_t codepoint;
    *length = utf8_decode(str_slice(text, at, text.len), &codepoint);
    if (!*length) {
        *length = 1;
        codepoint = 0xFFFD;
    }
    uint32_t low = 0, high = re->n_intervals;
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;
        if (re->bounds[middle] <= codepoint) low = middle;
        else high = middle;
    }
    return re->class_of[low * UNICODE_CATEGORY_COUNT + unicode_category(codepoint)];
}

static inline uint32_t class_at(const Regex *re, Str text, size_t at, size_t *length) {
    uint8_t byte = (uint8_t)text.ptr[at];
    *length = 1;
    return byte < 128 ? re->ascii_class[byte] : class_beyond_ascii(re, text, at, length);
}

// ---- matching forward ----

// The end of the match that begins at `start`, or `start` when there is none.
static inline size_t run(RegexScan *scan, size_t start) {
    const Regex *re = scan->regex;
    const Str text = scan->text;
    size_t at = start, end = start;
    uint32_t row = re->n_classes;
    while (at < text.len) {
        size_t length;
        uint32_t next = re->next[row + class_at(re, text, at, &length)];
        if (next & REGEX_MATCH) end = at;
        row = next & ~REGEX_MATCH;
        if (!row) break;
        at += length;
    }
    scan->n_steps += at - start;
    bool matches_at_end = row && (re->next[row + re->n_classes - 1] & REGEX_MATCH);
    return matches_at_end ? at : end;
}

// ---- matching in two passes ----

static uint32_t symbol_at(const Regex *re, uint32_t class, uint32_t *behind) {
    const RegexTwoPass *t = &re->two_pass;
    if (!t->behind_next) return class;
    uint32_t at = *behind * re->n_classes + class;
    *behind = t->behind_next[at];
    return class * t->n_holds + t->behind_holds[at];
}

static void note_text(RegexScan *scan) {
    const Regex *re = scan->regex;
    const RegexTwoPass *t = &re->two_pass;
    const size_t n = scan->text.len;
    uint32_t *notes = scan->notes, behind = 0, state = 0;
    for (size_t at = 0, length; at < n; at += length) {
        uint32_t class = class_at(re, scan->text, at, &length);
        notes[at] = symbol_at(re, class, &behind) << NOTE_LENGTH_BITS | (uint32_t)length;
        for (size_t i = 1; i < length; i++)
            notes[at + i] = 0;
    }
    notes[n] = symbol_at(re, re->n_classes - 1, &behind) << NOTE_LENGTH_BITS;
    const uint32_t n_symbols = re->n_classes * t->n_holds, length_mask = (1u << NOTE_LENGTH_BITS) - 1;
    for (size_t at = n + 1; at-- > 0;) {
        uint32_t length = notes[at] & length_mask;
        if (!length && at < n) continue;
        state = t->before[state * n_symbols + (notes[at] >> NOTE_LENGTH_BITS)];
        notes[at] = state << NOTE_LENGTH_BITS | length;
    }
    scan->is_noted = true;
    scan->n_steps += 2 * n;
}

static inline bool is_live(const uint64_t *live, uint32_t step) {
    return live[step / 64] >> (step % 64) & 1u;
}

// From a step that can be matched from here: the one that reads the next character on the preferred way, or
// the match.
static uint16_t follow(const RegexTwoPass *t, const uint64_t *live, uint16_t step) {
    for (;;) {
        const RegexStep *s = &t->steps[step];
        if (s->kind == STEP_SET || s->kind == STEP_MATCH) return step;
        step = s->kind != STEP_SPLIT || is_live(live, s->a) ? s->a : s->b;
    }
}

// The same where repetitions may be empty: a way that comes back to where it was is given up for the next
// one.
static uint16_t follow_loops(const RegexTwoPass *t, const uint64_t *live, uint16_t step) {
    uint64_t seen[REGEX_STEPS_MAX / 64] = {0};
    uint16_t stack[REGEX_STEPS_MAX + 1];
    uint32_t n = 0;
    stack[n++] = step;
    while (n) {
        step = stack[--n];
        const RegexStep *s = &t->steps[step];
        if (!is_live(live, step) || is_live(seen, step)) continue;
        seen[step / 64] |= 1ull << (step % 64);
        if (s->kind == STEP_SET || s->kind == STEP_MATCH) break;
        if (s->kind == STEP_SPLIT) stack[n++] = s->b;
        stack[n++] = s->a;
    }
    return step;
}

// The end of the match that begins at `at`, where there is one.
static size_t read_match(const RegexScan *scan, size_t at) {
    const RegexTwoPass *t = &scan->regex->two_pass;
    for (uint16_t step = t->start;; step = t->steps[step].a) {
        const uint64_t *live = t->live + (size_t)(scan->notes[at] >> NOTE_LENGTH_BITS) * t->n_words;
        step = (t->has_empty_loops ? follow_loops : follow)(t, live, step);
        if (t->steps[step].kind == STEP_MATCH) return at;
        at += scan->notes[at] & ((1u << NOTE_LENGTH_BITS) - 1);
    }
}

static bool find_noted(RegexScan *scan, size_t from, size_t *start, size_t *end) {
    const RegexTwoPass *t = &scan->regex->two_pass;
    size_t length;
    for (size_t at = from; at <= scan->text.len; at += length) {
        uint32_t note = scan->notes[at];
        length = max_u64(note & ((1u << NOTE_LENGTH_BITS) - 1), 1);
        scan->n_steps += length;
        if (!is_live(t->live + (size_t)(note >> NOTE_LENGTH_BITS) * t->n_words, t->start)) continue;
        *start = at;
        *end = read_match(scan, at);
        scan->n_steps += *end - at;
        if (*end > at || at != scan->last_end) return true;
    }
    return false;
}

// ---- scanning ----

uint64_t regex_scan_bytes(const Regex *re, uint64_t text_bytes) {
    return re->two_pass.n_states ? (text_bytes + 1) * sizeof(uint32_t) + _Alignof(uint32_t) : 0;
}

bool regex_scan_init(RegexScan *scan, const Regex *re, size_t text_bytes, Arena *arena) {
    *scan = (RegexScan){.regex = re, .last_end = SIZE_MAX};
    if (re->two_pass.n_states) scan->notes = arena_new(arena, uint32_t, text_bytes + 1);
    return scan->notes || !re->two_pass.n_states;
}

void regex_scan_text(RegexScan *scan, Str text) {
    scan->text = text;
    scan->is_noted = false;
    scan->n_steps_before = scan->n_steps;
    scan->last_end = SIZE_MAX;
}

static bool find_forward(RegexScan *scan, size_t from, size_t *start, size_t *end) {
    while (from < scan->text.len) {
        uint64_t looks = scan->n_steps - scan->n_steps_before;
        if (scan->notes && looks > REGEX_LOOKS_A_BYTE * from + REGEX_LOOKS_AT_FIRST) {
            note_text(scan);
            return find_noted(scan, from, start, end);
        }
        *end = run(scan, from);
        *start = from;
        if (*end > from) return true;
        size_t length;
        (void)class_at(scan->regex, scan->text, from, &length);
        from += length;
    }
    return false;
}

bool regex_find(RegexScan *scan, size_t from, size_t *start, size_t *end) {
    if (!scan->regex->next && !scan->is_noted) note_text(scan);
    bool found = scan->is_noted ? find_noted(scan, from, start, end) : find_forward(scan, from, start, end);
    if (found) scan->last_end = *end;
    return found;
}
