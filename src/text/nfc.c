#include "text/nfc.h"

#include "base/utf8.h"
#include "text/unicode.h"

// Hangul syllables are composed by arithmetic (Unicode standard, chapter 3.12).
enum { HANGUL_L = 0x1100, HANGUL_V = 0x1161, HANGUL_T = 0x11A7, HANGUL_S = 0xAC00 };
enum { HANGUL_L_COUNT = 19, HANGUL_V_COUNT = 21, HANGUL_T_COUNT = 28 };
enum { HANGUL_S_COUNT = HANGUL_L_COUNT * HANGUL_V_COUNT * HANGUL_T_COUNT };

// A character with its combining class in the upper 8 bits; bytes that are no UTF-8 are kept as INVALID |
// byte.
#define INVALID 0x00800000u
// clang-format off
#define CODE(mark) ((mark)&0x00FFFFFFu)
// clang-format on
#define CLASS(mark) ((mark) >> 24)

static uint32_t combining_class(uint32_t codepoint) {
    uint32_t low = 0, high = unicode_combining_run_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        const UnicodeCombiningRun *run = &unicode_combining_runs[middle];
        if (codepoint < run->first) high = middle;
        else if (codepoint > run->last) low = middle + 1;
        else return run->combining_class;
    }
    return 0;
}

static const UnicodeDecomposition *find_decomposition(uint32_t codepoint) {
    uint32_t low = 0, high = unicode_decomposition_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        const UnicodeDecomposition *d = &unicode_decompositions[middle];
        if (d->codepoint == codepoint) return d;
        if (d->codepoint < codepoint) low = middle + 1;
        else high = middle;
    }
    return NULL;
}

// The character that the two make, or 0.
static uint32_t compose(uint32_t first, uint32_t second) {
    if (first - HANGUL_L < HANGUL_L_COUNT && second - HANGUL_V < HANGUL_V_COUNT) {
        return HANGUL_S + ((first - HANGUL_L) * HANGUL_V_COUNT + (second - HANGUL_V)) * HANGUL_T_COUNT;
    }
    if (first - HANGUL_S < HANGUL_S_COUNT && (first - HANGUL_S) % HANGUL_T_COUNT == 0 && second > HANGUL_T &&
        second < HANGUL_T + HANGUL_T_COUNT) {
        return first + (second - HANGUL_T);
    }
    uint32_t low = 0, high = unicode_composition_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        const UnicodeDecomposition *d = &unicode_decompositions[unicode_compositions[middle]];
        if (d->first == first && d->second == second) return d->codepoint;
        if (d->first < first || (d->first == first && d->second < second)) low = middle + 1;
        else high = middle;
    }
    return 0;
}

bool nfc_is_done(Str text) {
    for (size_t at = 0; at < text.len;) {
        uint32_t codepoint;
        if ((uint8_t)text.ptr[at] < 128) {
            at++;
            continue;
        }
        size_t length = utf8_decode(str_slice(text, at, text.len), &codepoint);
        if (length && unicode_needs_nfc(codepoint)) return false;
        at += length ? length : 1;
    }
    return true;
}

// Appends the full canonical decomposition: at most 4 characters, never more than two for each byte of UTF-8.
static size_t decompose(uint32_t codepoint, uint32_t *out) {
    if (codepoint - HANGUL_S < HANGUL_S_COUNT) {
        uint32_t s = codepoint - HANGUL_S, t = s % HANGUL_T_COUNT;
        out[0] = HANGUL_L + s / (HANGUL_V_COUNT * HANGUL_T_COUNT);
        out[1] = HANGUL_V + s / HANGUL_T_COUNT % HANGUL_V_COUNT;
        out[2] = HANGUL_T + t;
        return t ? 3 : 2;
    }
    const UnicodeDecomposition *d = codepoint < 128 ? NULL : find_decomposition(codepoint);
    if (!d) {
        out[0] = codepoint | combining_class(codepoint) << 24;
        return 1;
    }
    size_t n = decompose(d->first, out); // a few levels deep: the longest chain in the tables is three
    return d->second ? n + decompose(d->second, out + n) : n;
}

// Stable sort of a run of marks by their class. `spare` has room for as many.
static void sort_run(uint32_t *marks, size_t count, uint32_t *spare) {
    if (count <= 16) {
        for (size_t i = 1; i < count; i++) {
            uint32_t mark = marks[i];
            size_t k = i;
            for (; k > 0 && CLASS(marks[k - 1]) > CLASS(mark); k--)
                marks[k] = marks[k - 1];
            marks[k] = mark;
        }
        return;
    }
    size_t starts[257] = {0};
    for (size_t i = 0; i < count; i++)
        starts[CLASS(marks[i]) + 1]++;
    for (size_t c = 1; c < 257; c++)
        starts[c] += starts[c - 1];
    for (size_t i = 0; i < count; i++)
        spare[starts[CLASS(marks[i])]++] = marks[i];
    memcpy(marks, spare, count * sizeof *marks);
}

static void sort_marks(uint32_t *marks, size_t count, uint32_t *spare) {
    for (size_t i = 0; i < count;) {
        if (!CLASS(marks[i])) {
            i++;
            continue;
        }
        size_t end = i + 1;
        while (end < count && CLASS(marks[end]))
            end++;
        sort_run(marks + i, end - i, spare);
        i = end;
    }
}

// In place: a character joins the last starter unless something between them has its class or a higher one.
static size_t compose_all(uint32_t *marks, size_t count) {
    size_t written = 0, starter = SIZE_MAX;
    uint32_t last_class = 0; // of what was written behind the starter
    for (size_t i = 0; i < count; i++) {
        uint32_t mark = marks[i], class = CLASS(mark);
        bool adjacent = starter != SIZE_MAX && written == starter + 1;
        bool blocked = !adjacent && (last_class == 0 || last_class >= class);
        uint32_t joined = starter == SIZE_MAX || blocked ? 0 : compose(CODE(marks[starter]), CODE(mark));
        if (joined) {
            marks[starter] = joined;
            continue;
        }
        if (class == 0) starter = written;
        last_class = class;
        marks[written++] = mark;
    }
    return written;
}

static bool normalize(Str text, bool composes, Arena *arena, Str *out) {
    uint32_t *marks = arena_new(arena, uint32_t, text.len * 2 + 4);
    uint32_t *spare = arena_new(arena, uint32_t, text.len * 2 + 4);
    char *result = arena_new(arena, char, nfc_bytes_max(text.len));
    if (!marks || !spare || !result) return false;
    size_t count = 0;
    for (size_t at = 0; at < text.len;) {
        uint32_t codepoint;
        size_t length = utf8_decode(str_slice(text, at, text.len), &codepoint);
        if (length) count += decompose(codepoint, marks + count);
        else marks[count++] = INVALID | (uint8_t)text.ptr[at];
        at += length ? length : 1;
    }
    sort_marks(marks, count, spare);
    if (composes) count = compose_all(marks, count);
    size_t size = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t code = CODE(marks[i]);
        if (code & INVALID) result[size++] = (char)code;
        else size += utf8_encode(code, result + size);
    }
    *out = (Str){result, size};
    return true;
}

bool nfc_normalize(Str text, Arena *arena, Str *out) {
    return normalize(text, true, arena, out);
}

bool nfd_normalize(Str text, Arena *arena, Str *out) {
    return normalize(text, false, arena, out);
}
