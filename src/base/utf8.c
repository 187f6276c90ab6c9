#include "base/utf8.h"

size_t utf8_encode(uint32_t cp, char out[4]) {
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    size_t length = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    static const uint8_t lead[5] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = length - 1; i > 0; i--, cp >>= 6)
        out[i] = (char)(0x80 | (cp & 63));
    out[0] = (char)(lead[length] | cp);
    return length;
}

size_t utf8_valid_prefix(Str s) {
    size_t at = 0;
    while (at < s.len) {
        uint64_t eight;
        if (s.len - at >= 8 && (memcpy(&eight, s.ptr + at, 8), (eight & 0x8080808080808080u) == 0)) {
            at += 8;
            continue;
        }
        uint32_t cp;
        size_t length = utf8_decode(str_slice(s, at, s.len), &cp);
        if (length == 0) break;
        at += length;
    }
    return at;
}

// The range that the byte after this lead byte must lie in (RFC 3629, section 4).
static bool utf8_second_byte_ok(uint8_t lead, uint8_t second) {
    uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    return second >= low && second <= high;
}

size_t utf8_incomplete_tail(Str s) {
    for (size_t tail = 1; tail <= 3 && tail <= s.len; tail++) {
        const uint8_t *b = (const uint8_t *)s.ptr + s.len - tail;
        if ((b[0] & 0xC0) == 0x80) continue;
        if (b[0] < 0xC2 || b[0] > 0xF4) return 0;
        size_t need = b[0] >= 0xF0 ? 4 : b[0] >= 0xE0 ? 3 : 2;
        if (tail >= need) return 0;
        return tail == 1 || utf8_second_byte_ok(b[0], b[1]) ? tail : 0;
    }
    return 0;
}

size_t utf8_count(Str s) {
    size_t count = 0;
    for (size_t i = 0; i < s.len; i++)
        count += ((uint8_t)s.ptr[i] & 0xC0) != 0x80;
    return count;
}
