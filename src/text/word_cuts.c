#include "text/word_cuts.h"

#include "base/utf8.h"

static bool is_space(Str text, size_t at) {
    return str_starts_with(str_slice(text, at, text.len), STR(WORD_SPACE));
}

void word_cuts_note(WordCuts *cuts, Str token) {
    for (size_t at = 1; at + WORD_SPACE_BYTES <= token.len; at++) {
        if (!is_space(token, at)) continue;
        if (at >= WORD_SPACE_BYTES && is_space(token, at - WORD_SPACE_BYTES)) continue;
        uint32_t row = (uint32_t)(uint8_t)token.ptr[at - 1] << 8;
        bool last = at + WORD_SPACE_BYTES == token.len;
        for (uint32_t next = 0; next < 256; next++) {
            if (!last && next != (uint8_t)token.ptr[at + WORD_SPACE_BYTES]) continue;
            cuts->crossing[(row | next) / 64] |= 1ull << ((row | next) % 64);
        }
    }
}

// Whether a word ends at `at`, where a space begins that something else precedes.
static bool is_cut(const WordCuts *cuts, Str text, size_t at) {
    if (at + WORD_SPACE_BYTES >= text.len) return false;
    uint32_t around = (uint32_t)(uint8_t)text.ptr[at - 1] << 8 | (uint8_t)text.ptr[at + WORD_SPACE_BYTES];
    return !(cuts->crossing[around / 64] >> (around % 64) & 1u);
}

size_t word_character_bytes(Str text, size_t at) {
    uint32_t codepoint;
    size_t length = utf8_decode(str_slice(text, at, text.len), &codepoint);
    return length ? length : 1;
}

size_t word_cuts_next(const WordCuts *cuts, Str text, size_t start, size_t *n_characters) {
    bool was_space = true;
    size_t end = start, count = 0;
    while (end < text.len) {
        bool space = is_space(text, end);
        if (space && !was_space && is_cut(cuts, text, end)) break;
        was_space = space;
        end += space ? WORD_SPACE_BYTES : word_character_bytes(text, end);
        count++;
    }
    *n_characters = count;
    return end;
}
