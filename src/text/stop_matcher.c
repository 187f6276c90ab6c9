#include "text/stop_matcher.h"

// border[i]: the length of the longest proper prefix of `text` that is also a suffix of text[0 … i].
static uint16_t *make_border(Str text, Arena *arena) {
    uint16_t *border = arena_new(arena, uint16_t, text.len);
    if (!border) return NULL;
    uint16_t length = 0;
    for (size_t i = 1; i < text.len; i++) {
        while (length && text.ptr[i] != text.ptr[length])
            length = border[length - 1];
        if (text.ptr[i] == text.ptr[length]) length++;
        border[i] = length;
    }
    return border;
}

static bool stop_error(Error *err, ErrCode code, const char *message) {
    error_set(err, code, "%s", message);
    memcpy(err->field, "stop", sizeof "stop");
    return false;
}

bool stop_matcher_init(StopMatcher *m, const Str *strings, size_t count, Arena *arena, Error *err) {
    *m = (StopMatcher){0};
    if (count > STOP_STRINGS_MAX) return stop_error(err, ERR_INVALID_REQUEST, "too many stop strings");
    for (size_t i = 0; i < count; i++) {
        if (strings[i].len == 0) return stop_error(err, ERR_INVALID_REQUEST, "a stop string is empty");
        if (strings[i].len > STOP_STRING_BYTES_MAX) {
            return stop_error(err, ERR_INVALID_REQUEST, "a stop string is too long");
        }
        StopString *s = &m->strings[m->n_strings++];
        s->text = arena_copy_str(arena, strings[i]);
        s->border = s->text.ptr ? make_border(s->text, arena) : NULL;
        if (!s->border) return stop_error(err, ERR_NO_MEMORY, "no memory for the stop strings");
    }
    return true;
}

// True when the stream ends with the whole string after this byte.
static bool advance(StopString *s, char byte) {
    if (s->matched == s->text.len) s->matched = s->border[s->matched - 1];
    while (s->matched && s->text.ptr[s->matched] != byte)
        s->matched = s->border[s->matched - 1];
    s->matched += s->text.ptr[s->matched] == byte;
    return s->matched == s->text.len;
}

// Releases all but the last `keep` bytes of what was held plus `piece`; those are held from now on.
static StopOutput release_all_but(StopMatcher *m, Str piece, uint32_t keep) {
    size_t release = m->held_bytes + piece.len - keep;
    size_t from_held = (size_t)min_u64(release, m->held_bytes), from_piece = release - from_held;
    memcpy(m->released, m->held, from_held);
    memmove(m->held, m->held + from_held, m->held_bytes - from_held);
    m->held_bytes -= (uint32_t)from_held;
    Str rest = str_slice(piece, from_piece, piece.len);
    if (rest.len) memcpy(m->held + m->held_bytes, rest.ptr, rest.len);
    m->held_bytes += (uint32_t)rest.len;
    return (StopOutput){.first = {m->released, from_held}, .second = {piece.ptr, from_piece}};
}

StopOutput stop_matcher_push(StopMatcher *m, Str piece) {
    if (m->done || piece.len == 0) return (StopOutput){.stopped = m->done};
    for (size_t i = 0; i < piece.len; i++) {
        uint32_t found = 0;
        for (uint32_t s = 0; s < m->n_strings; s++) {
            if (!advance(&m->strings[s], piece.ptr[i]) || m->strings[s].text.len <= found) continue;
            found = (uint32_t)m->strings[s].text.len;
            m->found = s;
        }
        if (!found) continue;
        StopOutput out = release_all_but(m, str_slice(piece, 0, i + 1), found);
        m->held_bytes = 0;
        m->done = out.stopped = true;
        return out;
    }
    uint32_t keep = 0;
    for (uint32_t s = 0; s < m->n_strings; s++)
        keep = (uint32_t)max_u64(keep, m->strings[s].matched);
    return release_all_but(m, piece, keep);
}

Str stop_matcher_flush(StopMatcher *m) {
    Str rest = {m->held, m->held_bytes};
    m->held_bytes = 0;
    for (uint32_t i = 0; i < m->n_strings; i++)
        m->strings[i].matched = 0;
    return rest;
}
