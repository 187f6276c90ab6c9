// Who begins, who waits and who makes room: first come, first served.
#include "engine/engine_internal.h"

#include <assert.h>

// ---- those that compute the same ----

static uint32_t beginning_in_common(const Sequence *a, const Sequence *b) {
    uint32_t n = (uint32_t)min_u64(a->n_known - 1, b->n_known), same = 0;
    if (memcmp(a->salt, b->salt, CACHE_SALT_BYTES) != 0) return 0;
    while (same < n && a->tokens[same] == b->tokens[same])
        same++;
    return same;
}

// The older sequence in its prompt that has most in common with this one; the oldest of equal ones.
static void find_leader(const Engine *e, uint32_t slot) {
    Sequence *s = &e->sequences[slot];
    s->n_in_common = 0;
    for (uint32_t i = 0; i < e->n_order && e->order[i] != slot; i++) {
        const Sequence *older = &e->sequences[e->order[i]];
        uint32_t n = sequence_in_prompt(older) ? beginning_in_common(s, older) : 0;
        if (n <= s->n_in_common) continue;
        s->leader = e->order[i];
        s->leader_generation = older->generation;
        s->n_in_common = n;
    }
}

bool engine_follows(Engine *e, uint32_t slot) {
    Sequence *s = &e->sequences[slot];
    const Sequence *leader = &e->sequences[s->leader];
    if (s->n_in_common && (!leader->running || leader->generation != s->leader_generation)) {
        find_leader(e, slot);
        leader = &e->sequences[s->leader];
    }
    if (s->n_in_common <= s->n_sent || leader->n_sent >= s->n_in_common) return false;
    // For less than a page it waits only where nothing else is left to compute.
    return s->n_in_common - s->n_sent >= KV_PAGE_TOKENS || s->n_in_common == s->n_known - 1;
}

// ---- who begins ----

static uint32_t pages_of(uint64_t n_tokens) {
    return (uint32_t)div_up(n_tokens, KV_PAGE_TOKENS);
}

// Pages that the sequence will take for the tokens that it knows, when it has n_pages.
static uint32_t pages_to_come(const Sequence *s, uint32_t n_pages) {
    uint64_t has = max_u64(n_pages, s->n_in_common / KV_PAGE_TOKENS); // the leader's will be shared
    return (uint32_t)(max_u64(pages_of(s->n_known), has) - has);
}

// Whether there are pages for all that it knows, less what is cached, beside what those that run will take: a
// page of growth each, and the rest of their prompts.
static bool has_room(Engine *e, uint32_t slot) {
    Sequence *s = &e->sequences[slot];
    uint64_t needed = 0;
    uint32_t n_running = 0, n_found = 0, n_cached = 0, page = KV_NO_PAGE;
    for (uint32_t i = 0; i < e->n_order; i++) {
        const Sequence *other = &e->sequences[e->order[i]];
        if (!other->running) continue;
        n_running++;
        needed += 1 + (sequence_in_prompt(other) ? pages_to_come(other, other->n_pages) : 0);
    }
    find_leader(e, slot);
    if (n_running == 0) return true; // the cache holds a whole context
    if (needed >= kv_pages_available(&e->pages)) return false;
    for (; (n_found + 1) * KV_PAGE_TOKENS < s->n_known; n_found++) {
        page = kv_pages_find(&e->pages, (KvPlace){page, s->salt}, s->tokens + n_found * KV_PAGE_TOKENS);
        if (page == KV_NO_PAGE) break;
        n_cached += e->pages.pages[page].n_holders == 0; // is not available for others any more
    }
    return needed + 1 + pages_to_come(s, n_found) + n_cached <= kv_pages_available(&e->pages);
}

static bool start(Engine *e, uint32_t slot, Error *err) {
    Sequence *s = &e->sequences[slot];
    SequenceStart text = {.params = s->sampler,
                          .tokens = s->tokens,
                          .n_prompt = s->n_prompt,
                          .n_drawn = s->n_known - s->n_prompt};
    if (!s->begun && !e->backend->begin(e->backend, slot, &text, err)) return false;
    s->begun = s->running = true;
    sequence_attach(e, s);
    uint32_t at = s->n_whole;
    if (s->n_known == s->n_prompt && (at + 1) * KV_PAGE_TOKENS <= s->n_known)
        s->was_evicted =
            kv_pages_was_evicted(&e->pages, sequence_place(s, at), s->tokens + at * KV_PAGE_TOKENS);
    return true;
}

bool engine_start_waiting(Engine *e, Error *err) {
    for (uint32_t i = 0; i < e->n_order && !e->start_is_blocked; i++) {
        const Sequence *s = &e->sequences[e->order[i]];
        if (s->running || s->ended) continue;
        e->start_is_blocked = !has_room(e, e->order[i]); // then nobody behind it begins either
        if (!e->start_is_blocked && !start(e, e->order[i], err)) return false;
    }
    return true;
}

// ---- who makes room ----

static uint32_t youngest_running(const Engine *e) {
    uint32_t i = e->n_order;
    while (i > 0 && !e->sequences[e->order[i - 1]].running)
        i--;
    assert(i > 0);
    return e->order[i - 1];
}

void engine_set_aside(Engine *e, uint32_t slot) {
    Sequence *s = &e->sequences[slot];
    if (!s->running) return;
    sequence_give_back(e, s);
    s->running = s->begun = false;
    s->times_set_aside++;
    s->generation++; // what is under way for it is drawn again
    s->n_known = s->n_prompt + s->n_drawn_read;
    s->n_drawn_sent = s->n_drawn_read;
    if (s->n_drawn_read == 0) s->n_cached = 0; // of the prompt as it begins again
    step_policy_forget(&e->policy, slot);
}

uint32_t engine_times_set_aside(const Engine *e, uint32_t slot) {
    return e->sequences[slot].times_set_aside;
}

bool engine_grow(Engine *e, uint32_t slot, uint32_t n_rows) {
    Sequence *s = &e->sequences[slot];
    uint32_t n = pages_of((uint64_t)s->n_sent + n_rows);
    while (s->n_pages < n) {
        if (kv_pages_take(&e->pages, &s->pages[s->n_pages])) {
            s->n_pages++;
            continue;
        }
        uint32_t youngest = youngest_running(e);
        engine_set_aside(e, youngest);
        if (youngest == slot) return false;
    }
    return true;
}
