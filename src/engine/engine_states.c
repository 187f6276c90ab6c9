// Checkpoints of the states that a model's layers keep: where sequences leave them, and go on from them.
//
// A prompt leaves one at its last border of pages before its last token, at borders near those of its first
// and last messages, every CHECKPOINT_TOKENS tokens, and where another sequence waits for what both begin
// with. A chunk ends there, which costs a step; so they are some tokens apart. While a text is drawn it
// leaves one at every border, which costs a copy alone; the one before is the first to go where places are
// needed.
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

// ---- where chunks end ----

// The nearer one of two places ahead.
static void prefer(uint32_t *stop, uint32_t place, uint32_t least) {
    if (place >= least && place < *stop) *stop = place;
}

uint32_t sequence_stop(const Engine *e, Sequence *s) {
    s->stop = s->n_known;
    if (!engine_keeps_checkpoints(e)) return s->stop;
    uint32_t least = (uint32_t)max_u64((uint64_t)s->saved_at + e->checkpoint_tokens_min, s->n_sent + 1);
    for (uint32_t i = 0; i < s->n_borders; i++)
        prefer(&s->stop, s->borders[i], least);
    prefer(&s->stop, (uint32_t)align_up(least, CHECKPOINT_TOKENS), least);
    prefer(&s->stop, (s->n_known - 1) / KV_PAGE_TOKENS * KV_PAGE_TOKENS, least);
    prefer(&s->stop, s->asked_stop, s->n_sent + 1);
    return s->stop;
}

void sequence_ask_for_stop(Sequence *s, uint32_t place) {
    if (s->asked_stop <= s->n_sent || place < s->asked_stop) s->asked_stop = place;
}

// ---- leaving them, and going on from them ----

static bool is_wanted(const Engine *e, const Sequence *s, const StepSequence *q) {
    if (!engine_keeps_checkpoints(e) || !step_is_last_slice(q) || s->n_sent % KV_PAGE_TOKENS) return false;
    if (q->mode == STEP_DECODE || s->n_sent == s->stop) return true;
    return s->n_sent == s->n_known && s->n_sent - s->saved_at >= e->checkpoint_tokens_min;
}

// The checkpoint before this one of those that a sequence leaves while it draws is of less use, unless a
// prompt would have left it there.
static void pass_drawn(Engine *e, Sequence *s, uint32_t at) {
    uint32_t n = s->n_drawn_checkpoint;
    if (n && n * KV_PAGE_TOKENS % CHECKPOINT_TOKENS)
        kv_checkpoints_pass(&e->pages.checkpoints, s->nodes[n - 1]);
    s->n_drawn_checkpoint = at + 1;
}

bool sequence_save_state(Engine *e, const StepSequence *q, Error *err) {
    Sequence *s = &e->sequences[q->slot];
    KvCheckpoints *c = &e->pages.checkpoints;
    if (!is_wanted(e, s, q)) return true;
    uint32_t at = s->n_sent / KV_PAGE_TOKENS - 1, node = s->nodes[at];
    if (q->mode == STEP_DECODE) pass_drawn(e, s, at);
    if (kv_checkpoints_of(c, node) != KV_NO_CHECKPOINT) kv_checkpoints_renew(c, node);
    else if (!e->backend->save_state(e->backend, q->slot, kv_checkpoints_take(c, node), err)) return false;
    s->saved_at = s->n_sent;
    return true;
}

bool sequence_restore_state(Engine *e, Sequence *s, uint32_t node, Error *err) {
    KvCheckpoints *c = &e->pages.checkpoints;
    uint32_t slot = (uint32_t)(s - e->sequences), place = kv_checkpoints_of(c, node);
    kv_checkpoints_use(c, node);
    s->saved_at = s->n_sent;
    return e->backend->restore_state(e->backend, slot, place, err);
}
