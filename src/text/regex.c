#include "text/regex.h"

#include "base/utf8.h"
#include "text/unicode.h"

// Runs longer than this leave a trail. Short ones, nearly all, do not pay for it.
enum { REGEX_SHORT_RUN = 32 };

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

// Whether a match ends with the text.
static bool matches_at_end(const Regex *re, uint32_t row) {
    return re->next[row + re->n_classes - 1] & REGEX_MATCH;
}

// Goes on with a run that has become long: notes the row before each character, and stops where an earlier
// run that found nothing more was in the same row. Returns the end of the last match found, or `end`.
static size_t run_with_trail(RegexScan *scan, size_t at, uint32_t row, size_t end) {
    const Regex *re = scan->regex;
    size_t first = at, trail_from = at;
    while (at < scan->text.len) {
        if (at >= scan->trail_from && at < scan->trail_to && scan->trail[at] == row) {
            scan->n_steps += at - first;
            scan->trail_from = trail_from;
            return end;
        }
        size_t length;
        uint32_t next = re->next[row + class_at(re, scan->text, at, &length)];
        scan->trail[at] = row;
        if (next & REGEX_MATCH) {
            end = at;
            trail_from = at + length;
        }
        row = next & ~REGEX_MATCH;
        if (!row) break;
        at += length;
    }
    scan->n_steps += at - first;
    scan->trail_from = trail_from;
    scan->trail_to = at;
    return row && matches_at_end(re, row) ? at : end;
}

// The end of the match that begins at `start`, or `start` when there is none.
static size_t run(RegexScan *scan, size_t start) {
    const Regex *re = scan->regex;
    const Str text = scan->text;
    const size_t stop = start + (size_t)min_u64(text.len - start, REGEX_SHORT_RUN);
    size_t at = start, end = start;
    uint32_t row = re->n_classes;
    while (at < stop) {
        size_t length;
        uint32_t next = re->next[row + class_at(re, text, at, &length)];
        if (next & REGEX_MATCH) end = at;
        row = next & ~REGEX_MATCH;
        if (!row) break;
        at += length;
    }
    scan->n_steps += at - start;
    if (!row) return end;
    if (at < text.len) return run_with_trail(scan, at, row, end);
    return matches_at_end(re, row) ? at : end;
}

bool regex_find(RegexScan *scan, size_t from, size_t *start, size_t *end) {
    while (from < scan->text.len) {
        *end = run(scan, from);
        if (*end > from) {
            *start = from;
            return true;
        }
        size_t length;
        (void)class_at(scan->regex, scan->text, from, &length);
        from += length;
    }
    return false;
}
