#include "grammar/dfa.h"

uint32_t dfa_run(const Dfa *d, uint32_t state, Str text) {
    for (size_t i = 0; i < text.len && state != DFA_NONE; i++)
        state = dfa_step(d, state, (uint8_t)text.ptr[i]);
    return state;
}

bool dfa_accepts(const Dfa *d, Str text) {
    if (d->n_states == 0) return false;
    uint32_t state = dfa_run(d, 0, text);
    return state != DFA_NONE && dfa_may_end(d, state);
}

bool dfa_from_bytes(Str text, Arena *arena, Dfa *out, Error *err) {
    *out = (Dfa){.n_states = (uint32_t)text.len + 1, .n_classes = 1};
    if (text.len >= DFA_STATES_MAX)
        return error_set(err, ERR_TOO_LARGE, "a text of %zu bytes is too long", text.len);
    for (size_t i = 0; i < text.len; i++) {
        uint8_t *class = &out->class_of[(uint8_t)text.ptr[i]];
        if (!*class) *class = (uint8_t)out->n_classes++; // class 0: bytes that do not occur
        if (out->n_classes == 256) break;
    }
    if (out->n_classes == 256) { // perhaps every byte occurs: a class each
        for (int b = 0; b < 256; b++)
            out->class_of[b] = (uint8_t)b;
    }
    uint32_t *next = arena_new(arena, uint32_t, (uint64_t)out->n_states * out->n_classes);
    uint8_t *accepts = arena_new(arena, uint8_t, out->n_states);
    if (!next || !accepts)
        return error_set(err, ERR_NO_MEMORY, "no memory is left for the grammar's automata");
    for (size_t i = 0; i < (size_t)out->n_states * out->n_classes; i++)
        next[i] = DFA_NONE;
    for (size_t i = 0; i < text.len; i++)
        next[i * out->n_classes + out->class_of[(uint8_t)text.ptr[i]]] = (uint32_t)i + 1;
    accepts[text.len] = 1;
    out->next = next;
    out->accepts = accepts;
    return true;
}
