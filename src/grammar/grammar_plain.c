#include "grammar/grammar_plain.h"

enum { PLAIN_STATES_MAX = 64 };

bool plain_init(PlainCache *p, Arena *arena) {
    p->entries = arena_new_dirty(arena, PlainEntry, PLAIN_ENTRIES);
    if (!p->entries) return false;
    memset(p->entries, 0xFF, PLAIN_ENTRIES * sizeof *p->entries);
    return true;
}

// UTF-8 as rows: a range of first bytes, a range of second bytes, and how many bytes more of 80 to BF. A
// range from 0x20 to 0x7E without two characters is ASCII's part.
static const struct {
    uint8_t first, last, second_first, second_last, more;
} utf8_rows[] = {
    {0xC2, 0xC2, 0xA0, 0xBF, 0}, // without the controls 80 to 9F
    {0xC3, 0xDF, 0x80, 0xBF, 0}, {0xE0, 0xE0, 0xA0, 0xBF, 1}, {0xE1, 0xEC, 0x80, 0xBF, 1},
    {0xED, 0xED, 0x80, 0x9F, 1}, {0xEE, 0xEF, 0x80, 0xBF, 1}, {0xF0, 0xF0, 0x90, 0xBF, 2},
    {0xF1, 0xF3, 0x80, 0xBF, 2}, {0xF4, 0xF4, 0x80, 0x8F, 2},
};

typedef struct {
    const Dfa *dfa;
    bool followed;
    bool exits; // asks for characters that end the automaton, not for those that stay
    PlainEntry *entry;
} Plain;

static bool plain_stays(const Plain *p, uint32_t state) {
    return state != DFA_NONE && !(p->followed && dfa_may_end(p->dfa, state));
}

static bool is_last(const Dfa *dfa, uint32_t state) {
    for (uint32_t c = 0; c < dfa->n_classes; c++)
        if (dfa_step_class(dfa, state, c) != DFA_NONE) return false;
    return dfa_may_end(dfa, state);
}

static bool plain_arrive(Plain *p, uint32_t state) {
    PlainEntry *e = p->entry;
    if (p->exits) return is_last(p->dfa, state);
    if (!plain_stays(p, state)) return false;
    for (uint32_t i = 0; i < e->n_next; i++)
        if (e->next[i] == state) return true;
    if (e->n_next == PLAIN_NEXT_MAX) return false;
    e->next[e->n_next++] = state;
    return true;
}

// All bytes from `first` to `last`, then `more` bytes of 80 to BF. Bytes that lead to the same state as the
// one before are looked at once.
static bool plain_bytes(Plain *p, uint32_t state, int first, int last, int more) {
    uint32_t before = DFA_NONE;
    for (int byte = first; byte <= last; byte++) {
        if (byte == '"' || byte == '\\') continue;
        uint32_t next = dfa_step(p->dfa, state, (uint8_t)byte);
        if (next == before && before != DFA_NONE) continue;
        if (next == DFA_NONE || (more && !plain_stays(p, next))) return false;
        if (!(more ? plain_bytes(p, next, 0x80, 0xBF, more - 1) : plain_arrive(p, next))) return false;
        before = next;
    }
    return true;
}

static bool plain_character(Plain *p, uint32_t state) {
    if (!plain_bytes(p, state, 0x20, 0x7E, 0)) return false;
    for (size_t i = 0; i < COUNT_OF(utf8_rows); i++) {
        uint32_t before = DFA_NONE;
        for (int byte = utf8_rows[i].first; byte <= utf8_rows[i].last; byte++) {
            uint32_t next = dfa_step(p->dfa, state, (uint8_t)byte);
            if (next == before && before != DFA_NONE) continue;
            if (!plain_stays(p, next)) return false;
            if (!plain_bytes(p, next, utf8_rows[i].second_first, utf8_rows[i].second_last, utf8_rows[i].more))
                return false;
            before = next;
        }
    }
    return true;
}

// Whether no plain character can come at all.
static bool plain_none(const Dfa *dfa, uint32_t state) {
    for (int byte = 0x20; byte <= 0xF4; byte++) {
        bool begins = byte < 0x7F ? byte != '"' && byte != '\\' : byte >= 0xC2;
        if (begins && dfa_step(dfa, state, (uint8_t)byte) != DFA_NONE) return false;
    }
    return true;
}

static const PlainEntry *plain_entry(PlainCache *c, const Dfa *dfa, uint32_t number, uint32_t state,
                                     bool followed) {
    PlainEntry *e = &c->entries[(number * 0x9E3779B1u + state) % PLAIN_ENTRIES];
    if (e->dfa == number && e->state == state) return e;
    *e = (PlainEntry){.dfa = number, .state = state};
    Plain p = {.dfa = dfa, .followed = followed, .entry = e};
    e->takes_all = plain_character(&p, state);
    e->takes_none = !e->takes_all && plain_none(dfa, state);
    p.exits = true;
    e->exits = !e->takes_all && !e->takes_none && plain_character(&p, state);
    return e;
}

PlainDepth plain_depth(PlainCache *c, const Dfa *dfa, uint32_t number, uint32_t state, bool followed) {
    // The states of texts of any length up to the present one; from `fresh` on those of exactly that length
    // that were not there before. What shorter texts reach has been looked at already.
    uint32_t states[PLAIN_STATES_MAX], n = 1, fresh = 0;
    bool returns = false; // to a state of a shorter text
    states[0] = state;
    for (uint32_t depth = 0; depth < TRIE_PLAIN_MAX; depth++) {
        uint32_t end = n;
        if (fresh == end) return (PlainDepth){.most = TRIE_PLAIN_ANY};
        for (uint32_t i = fresh; i < end; i++) {
            if (plain_entry(c, dfa, number, states[i], followed)->takes_all) continue;
            // What do all texts of this length say of longer ones?
            PlainDepth found = {depth, .ends = !returns, .exits = !returns};
            for (uint32_t k = fresh; k < end; k++) {
                const PlainEntry *e = plain_entry(c, dfa, number, states[k], followed);
                found.ends &= e->takes_none;
                found.exits &= e->exits;
            }
            return found;
        }
        for (uint32_t i = fresh; i < end; i++) {
            const PlainEntry *e = plain_entry(c, dfa, number, states[i], followed);
            for (uint32_t k = 0; k < e->n_next; k++) {
                uint32_t at = 0;
                while (at < n && states[at] != e->next[k])
                    at++;
                returns |= at < end;
                if (at < n) continue;
                if (n == PLAIN_STATES_MAX) return (PlainDepth){.most = depth + 1};
                states[n++] = e->next[k];
            }
        }
        fresh = end;
    }
    return (PlainDepth){.most = TRIE_PLAIN_MAX};
}
