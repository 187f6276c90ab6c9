// Sequences that are held to grammars: where each is in its text, and what it may draw next.
//
// The engine's thread is the one that reads tokens and sends the next draw, so the matchers are its own: one
// a slot, in memory of its own. It stays for the slot's next sequence with the same grammar, which finds all
// masks made so far. A sequence that is set aside keeps its state, which depends on the tokens read alone. A
// mask is made when a token is read, not when the next draw is sent, so that a text which can only end is
// known to be over without another step.
#include "engine/engine_internal.h"

#include "os/os.h"

static bool make_trie(Engine *e, const Tokenizer *t, Error *err) {
    uint64_t text = 0, n = e->n_vocab;
    for (uint32_t i = 0; i < n; i++)
        text += tokenizer_piece(t, (int32_t)i, false).len;
    Arena keep = os_arena(n * 64 + text * sizeof(TrieNode) + (1 << 20));
    Arena scratch = os_arena(n * 64 + (1 << 20));
    if (!keep.next || !scratch.next)
        return error_set(err, ERR_NO_MEMORY, "no memory for the tree of %u tokens", e->n_vocab);
    bool ok = token_trie_from_tokenizer(t, e->n_vocab, &keep, scratch, &e->trie, err);
    os_release(scratch.next, arena_left(&scratch));
    return ok;
}

bool engine_take_grammars(Engine *e, const Tokenizer *t, Error *err) {
    if (!e->backend->info.masks) return true;
    if (!make_trie(e, t, err)) return false;
    e->matcher_bytes = align_up(GRAMMAR_SLOT_BYTES + e->trie.n_nodes * sizeof(uint32_t), 4096);
    e->matcher_memory = os_reserve(e->n_slots * e->matcher_bytes);
    return e->matcher_memory ||
           error_set(err, ERR_NO_MEMORY, "no memory for the grammars of %u slots", e->n_slots);
}

// Whether the mask allows a token that ends nothing: mostly one of its first words says so.
static bool allows_others(const TokenTrie *trie, const uint32_t *mask) {
    uint32_t others = 0;
    for (uint32_t i = 0; i < trie->n_words && others == 0; i++) {
        others = mask[i];
        for (uint32_t k = 0; others && k < trie->n_end_tokens; k++) {
            uint32_t end = (uint32_t)trie->end_tokens[k];
            if (end / 32 == i) others &= ~(1u << end % 32);
        }
    }
    return others != 0;
}

// Makes the mask of the sequence's state. *goes_on: a token may come that ends nothing; *ends: the text may
// end. False: there is no room for the states behind this one.
static bool make_mask(Engine *e, uint32_t slot, bool *goes_on, bool *ends) {
    Sequence *s = &e->sequences[slot];
    s->mask = grammar_mask(s->matcher, s->state);
    if (!s->mask) {
        GrammarState *kept[] = {&s->state};
        if (!grammar_keep(s->matcher, kept, 1)) return false;
        s->mask = grammar_mask(s->matcher, s->state);
    }
    if (!s->mask) return false;
    *goes_on = allows_others(&e->trie, s->mask);
    *ends = grammar_may_end(s->matcher, s->state);
    return true;
}

static bool refuse_room(Error *err) {
    return error_set(err, ERR_TOO_LARGE, "the grammar leads to more states than there is room for");
}

bool engine_has_matcher(const Engine *e, uint32_t slot, const Grammar *grammar) {
    const GrammarMatcher *last = e->sequences[slot].last_matcher;
    return grammar && last && grammar_matcher_fits(last, grammar);
}

bool sequence_hold(Engine *e, uint32_t slot, const Grammar *grammar, Error *err) {
    Sequence *s = &e->sequences[slot];
    bool goes_on, ends;
    if (!e->matcher_memory)
        return error_set(err, ERR_UNSUPPORTED, "the %s backend cannot hold draws to a set of tokens",
                         e->backend->info.kind);
    Arena memory = arena_from_memory(e->matcher_memory + slot * e->matcher_bytes, e->matcher_bytes);
    if (engine_has_matcher(e, slot, grammar)) {
        grammar_matcher_move(s->last_matcher, grammar);
    } else {
        s->last_matcher = NULL;
        if (!grammar_matcher_new(grammar, &e->trie, memory, &s->last_matcher, err))
            return err->code == ERR_NO_MEMORY ? refuse_room(err) : false;
    }
    s->matcher = s->last_matcher;
    s->state = grammar_start(s->matcher);
    if (!grammar_is_state(s->state) || !make_mask(e, slot, &goes_on, &ends)) return refuse_room(err);
    if (goes_on || (ends && e->trie.n_end_tokens)) return true;
    return error_set(err, ERR_INVALID_REQUEST, "no token of the vocabulary begins a text of the grammar");
}

bool sequence_knows_mask(const Engine *e, uint32_t slot) {
    const Sequence *s = &e->sequences[slot];
    return !s->matcher || s->n_drawn_sent == s->n_drawn_read;
}

const uint32_t *sequence_mask(const Engine *e, uint32_t slot) {
    return e->sequences[slot].mask;
}

static GrammarState step(Sequence *s, int32_t token) {
    GrammarState next = grammar_step(s->matcher, s->state, token);
    GrammarState *kept[] = {&s->state};
    if (next != GRAMMAR_FULL || !grammar_keep(s->matcher, kept, 1)) return next;
    return grammar_step(s->matcher, s->state, token);
}

bool sequence_follow(Engine *e, uint32_t slot, int32_t token, bool *complete, Error *err) {
    Sequence *s = &e->sequences[slot];
    bool goes_on, ends;
    GrammarState next = step(s, token);
    *complete = next == GRAMMAR_ENDED;
    if (*complete) return true;
    if (next == GRAMMAR_REFUSED)
        return error_set(err, ERR_INTERNAL, "token %d was drawn, which the grammar does not allow", token);
    if (!grammar_is_state(next)) return refuse_room(err);
    s->state = next;
    if (!make_mask(e, slot, &goes_on, &ends)) return refuse_room(err);
    *complete = !goes_on && ends;
    return goes_on || ends ||
           error_set(err, ERR_INVALID_REQUEST,
                     "no token of the vocabulary goes on with a text of the grammar");
}
