#include "text/unicode.h"

#include "base/utf8.h"

size_t unicode_space_behind(Str text, size_t at) {
    uint32_t codepoint;
    for (size_t length; (length = utf8_decode(str_slice(text, at, text.len), &codepoint)) != 0;
         at += length) {
        if (!unicode_is_space(codepoint)) break;
    }
    return at;
}

size_t unicode_character_before(Str text, size_t from, size_t at, uint32_t *codepoint) {
    size_t start = at;
    while (start > from && at - start < 4) {
        start--;
        if (((uint8_t)text.ptr[start] & 0xC0) != 0x80) break;
    }
    if (start == at || utf8_decode(str_slice(text, start, at), codepoint) != at - start) return 0;
    return at - start;
}

size_t unicode_space_before(Str text, size_t from, size_t at) {
    uint32_t codepoint;
    for (size_t length; (length = unicode_character_before(text, from, at, &codepoint)) != 0; at -= length) {
        if (!unicode_is_space(codepoint)) break;
    }
    return at;
}

// Alphabetic beyond the letters and marks: letters in circles, squares and parentheses.
static const uint32_t other_letters[][2] = {
    {0x24B6, 0x24E9}, {0x1F130, 0x1F149}, {0x1F150, 0x1F169}, {0x1F170, 0x1F189}};

bool unicode_is_word(uint32_t codepoint) {
    UnicodeCategory category = unicode_category(codepoint);
    if (category <= UNICODE_NL || category == UNICODE_PC) return true;
    if (codepoint == 0x200C || codepoint == 0x200D) return true;
    for (size_t i = 0; i < COUNT_OF(other_letters); i++) {
        if (codepoint >= other_letters[i][0] && codepoint <= other_letters[i][1]) return true;
    }
    return false;
}
