#include "engine_invariants.h"

#include "engine/engine_internal.h"
#include "kv_checks.h"

static uint64_t windows_held(const Engine *e, const Sequence *s) {
    return e->pages.n_windows ? s->n_nodes - s->first_window : 0;
}

// Between two steps, for the next row, and for a chunk whose slices are under way.
static uint64_t windows_needed(const Engine *e, const Sequence *s) {
    uint32_t n_rows = (uint32_t)(s->n_nodes * KV_PAGE_TOKENS - s->n_sent);
    return e->pages.n_windows ? kv_layout_window_pages(&e->pages.layout, n_rows) : 0;
}

const char *engine_problem(const Engine *e) {
    uint64_t n_held = 0, n_held_windows = 0;
    bool someone_waits = false;
    for (uint32_t i = 0; i < e->n_order; i++) {
        const Sequence *s = &e->sequences[e->order[i]];
        if (!s->used) return "a free slot is among those in use";
        if (s->running && someone_waits) return "a sequence runs while an older one waits";
        if (!s->running && s->n_nodes) return "a sequence that does not run holds pages";
        if (s->n_whole > s->n_nodes || s->n_sent > s->n_nodes * KV_PAGE_TOKENS)
            return "a sequence has more rows than its pages hold";
        if (s->first_window > s->n_nodes) return "a sequence has passed windows that it never had";
        if (s->running && windows_held(e, s) > windows_needed(e, s))
            return "a sequence holds windows that no row will read";
        someone_waits |= !s->running && !s->ended;
        n_held += s->n_nodes;
        n_held_windows += s->n_nodes - s->first_window;
    }
    const KvCheckpoints *c = &e->pages.checkpoints;
    bool is_under_way = e->policy.chunk.slice < e->policy.chunk.n_slices;
    if (!is_under_way && c->orders[CHECKPOINTS_UNDER_WAY].first != KV_NO_CHECKPOINT)
        return "a checkpoint is under way, and no chunk";
    if (e->n_order != engine_active(e)) return "not all slots in use are in the order";
    return kv_pages_problem(&e->pages, n_held, n_held_windows);
}
