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
    if (!e->shares_pages) return;
    for (uint32_t i = 0; i < e->n_order && e->order[i] != slot; i++) {
        const Sequence *older = &e->sequences[e->order[i]];
        uint32_t n = sequence_in_prompt(older) ? beginning_in_common(s, older) : 0;
        if (e->has_states) n -= n % KV_PAGE_TOKENS; // where a checkpoint may be
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
    bool follows = s->n_in_common - s->n_sent >= KV_PAGE_TOKENS || s->n_in_common == s->n_known - 1;
    if (follows && e->has_states) sequence_ask_for_checkpoint(&e->sequences[s->leader], s->n_in_common);
    return follows;
}

// ---- who begins ----

// Pages that sequences will take.
typedef struct {
    uint64_t pages;
    uint64_t passing; // nodes of which the windows are passed soon after: of rows in one step at a time
} Need;

// For the tokens that the sequence knows, when it has n_nodes and n_windows of these.
static void add_tokens(const KvPages *p, Need *need, const Sequence *s, uint64_t n_nodes,
                       uint64_t n_windows) {
    uint64_t has = max_u64(n_nodes, s->n_in_common / KV_PAGE_TOKENS); // the leader's will be shared
    uint64_t rest = max_u64(kv_pages_of(s->n_known), has) - has, windows = 0;
    if (p->n_windows) {
        uint64_t most = kv_layout_window_pages(&p->layout, 1);
        windows = min_u64(rest, most - min_u64(n_windows, most));
    }
    need->pages += p->layout.n_full * rest + p->n_windows * windows;
    need->passing += rest - windows;
}

static uint64_t pages_needed(const Engine *e, const Need *need) {
    uint64_t in_a_step = kv_pages_of(backend_chunk_rows(e->backend->info.max_rows));
    return need->pages + e->pages.n_windows * min_u64(need->passing, in_a_step);
}

// Cached pages that what is found would hold: they are not available for others any more.
static uint64_t pages_found(const KvPages *p, const Found *f) {
    uint64_t n = 0;
    for (uint32_t at = 0; at < f->end; at++) {
        const KvNode *node = &p->nodes[f->nodes[at]];
        if (node->n_holders == 0) n += p->layout.n_full;
        if (at >= f->first_window && node->n_window_holders == 0) n += p->n_windows;
    }
    return n;
}

// Whether there are pages for all that it knows, less what is cached, beside what those that run will take: a
// node of growth each, and the rest of their prompts.
static bool has_room(Engine *e, uint32_t slot) {
    const KvPages *p = &e->pages;
    Sequence *s = &e->sequences[slot];
    Need need = {0};
    uint32_t n_running = 0;
    for (uint32_t i = 0; i < e->n_order; i++) {
        const Sequence *other = &e->sequences[e->order[i]];
        if (!other->running) continue;
        n_running++;
        need.pages += p->layout.n_lists;
        if (sequence_in_prompt(other))
            add_tokens(p, &need, other, other->n_nodes, other->n_nodes - other->first_window);
    }
    find_leader(e, slot);
    if (n_running == 0) return true; // the cache holds a whole context
    if (pages_needed(e, &need) >= kv_pages_available(p)) return false;
    Found found = sequence_find(e, s);
    add_tokens(p, &need, s, found.end, found.end - found.first_window);
    return pages_needed(e, &need) + p->layout.n_lists + pages_found(p, &found) <= kv_pages_available(p);
}

static bool start(Engine *e, uint32_t slot, Error *err) {
    Sequence *s = &e->sequences[slot];
    SequenceStart text = {.params = s->sampler,
                          .tokens = s->tokens,
                          .n_prompt = s->n_prompt,
                          .n_drawn = s->n_known - s->n_prompt,
                          .masked = s->grammar != NULL};
    if (!s->begun && !e->backend->begin(e->backend, slot, &text, err)) return false;
    s->begun = s->running = true;
    bool more;
    if (!sequence_attach(e, s, &more, err)) return false;
    uint32_t at = s->n_whole;
    if (s->n_known > s->n_prompt || (at + 1) * KV_PAGE_TOKENS > s->n_known) return true;
    if (more) s->miss = e->has_states ? CACHE_MISS_STATE : CACHE_MISS_EVICTED;
    else if (kv_pages_was_evicted(&e->pages, sequence_place(s, at), s->tokens + at * KV_PAGE_TOKENS))
        s->miss = CACHE_MISS_EVICTED;
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
    uint64_t n = kv_pages_of((uint64_t)s->n_sent + n_rows);
    for (uint32_t node; s->n_nodes < n;) {
        if (kv_pages_take(&e->pages, &node)) {
            sequence_put(e, s, s->n_nodes, node);
            continue;
        }
        uint32_t youngest = youngest_running(e);
        engine_set_aside(e, youngest);
        if (youngest == slot) return false;
    }
    return true;
}
