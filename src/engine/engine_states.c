// Checkpoints of the states that a model's layers keep: where sequences leave them, and go on from them.
//
// A prompt leaves one at its last border of pages before its last token, at borders near those of its first
// and last messages, every CHECKPOINT_TOKENS tokens, where another sequence waits for what both begin with,
// and at its end, where that is a border. They cost no step of their own (StepKeep), but places, which are
// few; so they are some tokens apart. While a text is drawn it leaves one at every border; the one before is
// the first to go where places are needed.
#include "engine/engine_internal.h"

bool engine_keeps_checkpoints(const Engine *e) {
    return e->pages.checkpoints.n_places > 0;
}

// ---- borders of messages ----

bool engine_mark_messages(Engine *e, const Tokenizer *tokenizer, Arena *arena, Error *err) {
    if (!engine_keeps_checkpoints(e)) return true;
    uint32_t *marks = arena_new(arena, uint32_t, token_set_words(e->n_vocab));
    if (!marks) return error_set(err, ERR_NO_MEMORY, "the set of control tokens does not fit its memory");
    uint32_t n = (uint32_t)min_u64(e->n_vocab, tokenizer_vocab_size(tokenizer));
    for (uint32_t i = 0; i < n; i++) {
        if (tokenizer_is_special(tokenizer, (int32_t)i)) token_set_add(marks, (int32_t)i);
    }
    e->marks = marks;
    return true;
}

void sequence_find_borders(const Engine *e, Sequence *s) {
    uint32_t last = 0;
    s->n_borders = 0;
    if (!engine_keeps_checkpoints(e) || !e->marks) return;
    for (uint32_t i = e->checkpoint_tokens_min; i < s->n_prompt; i++) {
        if (i - last < e->checkpoint_tokens_min || !token_set_has(e->marks, s->tokens[i])) continue;
        last = i;
        if (s->n_borders == MESSAGE_BORDERS_MAX) { // the first ones stay, and the last ones
            memmove(s->borders + MESSAGE_BORDERS_FIRST, s->borders + MESSAGE_BORDERS_FIRST + 1,
                    (MESSAGE_BORDERS_MAX - MESSAGE_BORDERS_FIRST - 1) * sizeof *s->borders);
            s->n_borders--;
        }
        s->borders[s->n_borders++] = i / KV_PAGE_TOKENS * KV_PAGE_TOKENS;
    }
}

// ---- where a text leaves them ----

static bool is_among(const uint32_t *places, uint32_t n, uint32_t place) {
    bool is = false;
    for (uint32_t i = 0; i < n && !is; i++)
        is = places[i] == place;
    return is;
}

void sequence_ask_for_checkpoint(Sequence *s, uint32_t place) {
    bool is_known = is_among(s->asked, s->n_asked, place);
    if (!is_known && s->n_asked < CHECKPOINTS_ASKED_MAX) s->asked[s->n_asked++] = place;
}

static bool is_wanted(const Engine *e, const Sequence *s, StepMode mode, uint32_t place) {
    bool is_end = place == s->n_known, is_asked = is_among(s->asked, s->n_asked, place);
    if (mode == STEP_DECODE || is_end || is_asked) return true;
    if (place - s->saved_at < e->checkpoint_tokens_min) return false;
    bool is_before_last = place == (s->n_known - 1) / KV_PAGE_TOKENS * KV_PAGE_TOKENS;
    return is_before_last || place % CHECKPOINT_TOKENS == 0 || is_among(s->borders, s->n_borders, place);
}

// The checkpoint before this one of those that a sequence leaves while it draws is of less use, unless a
// prompt would have left it there.
static void pass_drawn(Engine *e, Sequence *s, uint32_t at) {
    uint32_t n = s->n_drawn_checkpoint;
    if (n && n * KV_PAGE_TOKENS % CHECKPOINT_TOKENS)
        kv_checkpoints_pass(&e->pages.checkpoints, s->nodes[n - 1]);
    s->n_drawn_checkpoint = at + 1;
}

static void take_places(Engine *e, const StepSequence *q, uint32_t first, uint32_t end) {
    Sequence *s = &e->sequences[q->slot];
    for (uint32_t at = first; at < end; at++) {
        uint32_t place = (at + 1) * KV_PAGE_TOKENS;
        if (!is_wanted(e, s, q->mode, place)) continue;
        if (q->mode == STEP_DECODE) pass_drawn(e, s, at);
        if (kv_checkpoints_take(&e->pages.checkpoints, s->nodes[at])) s->saved_at = place;
    }
}

void sequence_keep_states(Engine *e, StepSequence *q) {
    const KvCheckpoints *c = &e->pages.checkpoints;
    const Sequence *s = &e->sequences[q->slot];
    // The nodes that end in this part: its own ones, of which nothing is published yet.
    uint32_t first = q->position / KV_PAGE_TOKENS, end = (q->position + q->n_rows) / KV_PAGE_TOKENS;
    if (!engine_keeps_checkpoints(e)) return;
    if (q->slice == 0) take_places(e, q, first, end);
    for (uint32_t at = first; at < end; at++) {
        uint32_t place = kv_checkpoints_of(c, s->nodes[at]), n_rows = (at + 1) * KV_PAGE_TOKENS - q->position;
        if (place != KV_NO_CHECKPOINT) q->keeps[q->n_keeps++] = (StepKeep){n_rows, place};
    }
}

void sequence_keep_done(Engine *e, const StepSequence *q) {
    const Sequence *s = &e->sequences[q->slot];
    for (uint32_t i = 0; i < q->n_keeps && step_is_last_slice(q); i++)
        kv_checkpoints_renew(&e->pages.checkpoints,
                             s->nodes[(q->position + q->keeps[i].n_rows) / KV_PAGE_TOKENS - 1]);
}

// ---- going on from them ----

bool sequence_restore_state(Engine *e, Sequence *s, uint32_t node, Error *err) {
    KvCheckpoints *c = &e->pages.checkpoints;
    uint32_t slot = (uint32_t)(s - e->sequences), place = kv_checkpoints_of(c, node);
    kv_checkpoints_use(c, node);
    s->saved_at = s->n_sent;
    return e->backend->restore_state(e->backend, slot, place, err);
}
