#include "base/base.h"

#include <math.h>
#include <stdlib.h>

bool str_parse_u64(Str s, uint64_t *out) {
    uint64_t value = 0;
    if (s.len == 0) return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9') return false;
        if (!checked_mul(value, 10, &value)) return false;
        if (!checked_add(value, (uint64_t)(s.ptr[i] - '0'), &value)) return false;
    }
    *out = value;
    return true;
}

bool str_parse_f64(Str s, double *out) {
    char text[64];
    if (s.len == 0 || s.len >= sizeof text) return false;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (!(c >= '0' && c <= '9') && !memchr("+-.eE", c, 5)) return false;
        text[i] = c;
    }
    text[s.len] = 0;
    char *end = NULL;
    *out = strtod(text, &end);
    return end == text + s.len && isfinite(*out);
}
