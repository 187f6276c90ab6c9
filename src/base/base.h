// The few things that every file uses: string slices, attributes, overflow-checked sizes.
//
// A Str is a pointer and a length, never owned and not zero-terminated. Whoever hands one out says in its
// header how long the bytes live.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(format_arg, first_arg) __attribute__((format(printf, format_arg, first_arg)))
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

// On a function with vectorisable loops: compiled for the baseline and for AVX2 with FMA, chosen when the
// program is loaded. Sanitizers do not get along with that choice, which runs before they are set up.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define CPU_CLONES __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define CPU_CLONES
#endif

typedef struct {
    const char *ptr;
    size_t len;
} Str;

// A Str of a string literal.
#define STR(literal) ((Str){("" literal), sizeof(literal) - 1})
// The two arguments of a printf "%.*s".
#define STR_ARG(s) (int)((s).len), (s).ptr

static inline Str str_from_c(const char *text) {
    return text ? (Str){text, strlen(text)} : (Str){0};
}

static inline bool str_eq(Str a, Str b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool str_starts_with(Str s, Str prefix) {
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

static inline bool str_ends_with(Str s, Str suffix) {
    return s.len >= suffix.len &&
           (suffix.len == 0 || memcmp(s.ptr + s.len - suffix.len, suffix.ptr, suffix.len) == 0);
}

static inline Str str_slice(Str s, size_t from, size_t to) {
    return (Str){s.ptr + from, to - from};
}

// Decimal digits only, no sign, no space; false on anything else and on overflow.
MUST_CHECK bool str_parse_u64(Str s, uint64_t *out);
// A decimal floating-point number in the C locale's spelling, whole string; false on anything else, nan and
// inf.
MUST_CHECK bool str_parse_f64(Str s, double *out);

// False on overflow; *out is then undefined.
MUST_CHECK static inline bool checked_add(uint64_t a, uint64_t b, uint64_t *out) {
    return !__builtin_add_overflow(a, b, out);
}

MUST_CHECK static inline bool checked_mul(uint64_t a, uint64_t b, uint64_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}

// Rounds up to a power of two; the caller knows that it does not overflow.
static inline uint64_t align_up(uint64_t value, uint64_t alignment) {
    return (value + alignment - 1) & ~(alignment - 1);
}

static inline uint64_t min_u64(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

// What follows the noun after a count: "1 token", "2 tokens".
static inline const char *plural_s(uint64_t count) {
    return count == 1 ? "" : "s";
}

static inline uint64_t div_up(uint64_t a, uint64_t b) {
    return (a + b - 1) / b;
}
