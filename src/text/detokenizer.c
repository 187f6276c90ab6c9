#include "text/detokenizer.h"

#include "base/utf8.h"

#define REPLACEMENT "\xEF\xBF\xBD"

enum { REPLACEMENT_BYTES = 3 };

bool detokenizer_init(Detokenizer *d, const Tokenizer *tokenizer, Arena *arena) {
    // A piece and what was pending; each byte may become a replacement character.
    size_t size = ((size_t)tokenizer_piece_bytes_max(tokenizer) + sizeof d->pending) * REPLACEMENT_BYTES;
    *d = (Detokenizer){.tokenizer = tokenizer, .buffer = arena_new(arena, char, size), .buffer_bytes = size};
    detokenizer_reset(d);
    return d->buffer != NULL;
}

void detokenizer_reset(Detokenizer *d) {
    d->pending_count = 0;
    d->at_start = false;
    d->shows_special = false;
}

void detokenizer_show_special(Detokenizer *d, bool show) {
    d->shows_special = show;
}

void detokenizer_start_text(Detokenizer *d) {
    d->at_start = true;
}

// The length of the longest start of a character at the front of s, at least 1: what one U+FFFD stands for.
static size_t maximal_subpart(Str s) {
    for (size_t n = s.len < 3 ? s.len : 3; n > 1; n--) {
        if (utf8_incomplete_tail(str_slice(s, 0, n)) == n) return n;
    }
    return 1;
}

// Copies whole characters to `out`, with U+FFFD for what can be none, up to `end`. Returns the length.
static size_t put_characters(Str s, char *out) {
    size_t written = 0;
    for (size_t at = 0; at < s.len;) {
        Str rest = str_slice(s, at, s.len);
        size_t valid = utf8_valid_prefix(rest);
        memcpy(out + written, rest.ptr, valid);
        written += valid;
        at += valid;
        if (at == s.len) break;
        at += maximal_subpart(str_slice(s, at, s.len));
        memcpy(out + written, REPLACEMENT, REPLACEMENT_BYTES);
        written += REPLACEMENT_BYTES;
    }
    return written;
}

Str detokenizer_push(Detokenizer *d, int32_t id) {
    Str piece = tokenizer_piece(d->tokenizer, id, d->shows_special);
    if (!piece.len) return (Str){0};
    if (d->at_start && tokenizer_strips_leading_space(d->tokenizer) && piece.ptr[0] == ' ') {
        piece = str_slice(piece, 1, piece.len);
    }
    d->at_start = false;
    // The bytes lie at the end of the buffer and are read before the text that grows from its front reaches
    // them, since that is never more than three times what has been read.
    size_t count = d->pending_count + piece.len;
    char *bytes = d->buffer + d->buffer_bytes - count;
    memcpy(bytes, d->pending, d->pending_count);
    if (piece.len) memcpy(bytes + d->pending_count, piece.ptr, piece.len);
    size_t tail = utf8_incomplete_tail((Str){bytes, count});
    memcpy(d->pending, bytes + count - tail, tail);
    d->pending_count = (uint8_t)tail;
    return (Str){d->buffer, put_characters((Str){bytes, count - tail}, d->buffer)};
}

Str detokenizer_flush(Detokenizer *d) {
    size_t count = d->pending_count;
    d->pending_count = 0;
    return (Str){d->buffer, put_characters((Str){(const char *)d->pending, count}, d->buffer)};
}
