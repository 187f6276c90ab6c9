#include "text/normalizer.h"

#include "base/limits.h"
#include "base/utf8.h"
#include "text/nfc.h"
#include "text/unicode.h"
#include "text/word_cuts.h"

static uint64_t step_bytes_max(const NormalizerStep *s, uint64_t text_bytes, bool spaces_are_one) {
    uint64_t added = s->content.len;
    if (spaces_are_one && str_eq(s->content, STR(WORD_SPACE))) added = 1;
    switch (s->kind) {
    case NORMALIZE_NFC:
    case NORMALIZE_NFD: return nfc_bytes_max(text_bytes);
    case NORMALIZE_PREPEND: return text_bytes + added;
    case NORMALIZE_REPLACE: return text_bytes * max_u64(1, div_up(added, s->pattern_size));
    case NORMALIZE_STRIP_ACCENTS:
    case NORMALIZE_STRIP: break;
    }
    return text_bytes;
}

static uint64_t step_arena_bytes(const NormalizerStep *s, uint64_t text_bytes) {
    switch (s->kind) {
    case NORMALIZE_NFC:
    case NORMALIZE_NFD: return nfc_arena_bytes(text_bytes);
    case NORMALIZE_REPLACE:
        return step_bytes_max(s, text_bytes, false) + regex_scan_bytes(&s->pattern, text_bytes) + 16;
    case NORMALIZE_PREPEND:
    case NORMALIZE_STRIP_ACCENTS: return step_bytes_max(s, text_bytes, false);
    case NORMALIZE_STRIP: break;
    }
    return 0;
}

bool normalizer_add(Normalizer *n, const NormalizerStep *step) {
    if (n->n_steps == NORMALIZER_STEPS_MAX) return false;
    n->steps[n->n_steps++] = *step;
    return normalizer_bytes_max(n, 1, false) <= NORMALIZER_GROWTH_MAX;
}

uint64_t normalizer_bytes_max(const Normalizer *n, uint64_t text_bytes, bool spaces_are_one) {
    for (uint32_t i = 0; i < n->n_steps; i++)
        text_bytes = step_bytes_max(&n->steps[i], text_bytes, spaces_are_one);
    return text_bytes;
}

uint64_t normalizer_arena_bytes(const Normalizer *n, uint64_t text_bytes) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < n->n_steps; i++) {
        total += step_arena_bytes(&n->steps[i], text_bytes);
        text_bytes = step_bytes_max(&n->steps[i], text_bytes, false);
    }
    return total;
}

// ---- steps ----

static bool strip_accents(Str text, Arena *arena, Str *out) {
    char *result = arena_new(arena, char, text.len);
    if (!result) return false;
    size_t size = 0;
    for (size_t at = 0; at < text.len;) {
        uint32_t codepoint;
        size_t length = utf8_decode(str_slice(text, at, text.len), &codepoint);
        UnicodeCategory category = length ? unicode_category(codepoint) : UNICODE_CN;
        if (!length) length = 1;
        if (category < UNICODE_MN || category > UNICODE_ME) {
            memcpy(result + size, text.ptr + at, length);
            size += length;
        }
        at += length;
    }
    *out = (Str){result, size};
    return true;
}

static bool prepend(const NormalizerStep *s, Str text, bool at_start, Arena *arena, Str *out) {
    bool skips = (s->only_at_start && !at_start) || (s->unless_there && str_starts_with(text, s->content));
    *out = text;
    if (skips || text.len == 0 || s->content.len == 0) return true;
    char *result = arena_new(arena, char, s->content.len + text.len);
    if (!result) return false;
    memcpy(result, s->content.ptr, s->content.len);
    memcpy(result + s->content.len, text.ptr, text.len);
    *out = (Str){result, s->content.len + text.len};
    return true;
}

static bool replace(const NormalizerStep *s, Str text, Arena *arena, Str *out) {
    RegexScan scan;
    char *result = arena_new(arena, char, step_bytes_max(s, text.len, false));
    if (!result || !regex_scan_init(&scan, &s->pattern, text.len, arena)) return false;
    regex_scan_text(&scan, text);
    size_t size = 0, at = 0, from, to;
    while (at < text.len && regex_find(&scan, at, &from, &to)) {
        memcpy(result + size, text.ptr + at, from - at);
        size += from - at;
        if (s->content.len) memcpy(result + size, s->content.ptr, s->content.len);
        size += s->content.len;
        at = to;
    }
    if (at < text.len) memcpy(result + size, text.ptr + at, text.len - at);
    *out = (Str){result, size + text.len - at};
    return true;
}

static bool apply_step(const NormalizerStep *s, Str text, bool at_start, Arena *arena, Str *out) {
    *out = text;
    switch (s->kind) {
    case NORMALIZE_NFC: return nfc_is_done(text) || nfc_normalize(text, arena, out);
    case NORMALIZE_NFD: return nfd_normalize(text, arena, out);
    case NORMALIZE_STRIP_ACCENTS: return strip_accents(text, arena, out);
    case NORMALIZE_STRIP:
        if (s->right) *out = str_slice(*out, 0, unicode_space_before(*out, 0, out->len));
        if (s->left) *out = str_slice(*out, unicode_space_behind(*out, 0), out->len);
        return true;
    case NORMALIZE_PREPEND: return prepend(s, text, at_start, arena, out);
    case NORMALIZE_REPLACE: return replace(s, text, arena, out);
    }
    return false;
}

bool normalizer_apply(const Normalizer *n, Str text, bool at_start, Arena *arena, Str *out) {
    for (uint32_t i = 0; i < n->n_steps; i++) {
        if (!apply_step(&n->steps[i], text, at_start, arena, &text)) return false;
    }
    *out = text;
    return true;
}
