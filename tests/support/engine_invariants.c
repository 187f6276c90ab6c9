#include "engine_invariants.h"

#include "engine/engine_internal.h"
#include "kv_checks.h"

const char *engine_problem(const Engine *e) {
    uint64_t n_held = 0;
    bool someone_waits = false;
    for (uint32_t i = 0; i < e->n_order; i++) {
        const Sequence *s = &e->sequences[e->order[i]];
        if (!s->used) return "a free slot is among those in use";
        if (s->running && someone_waits) return "a sequence runs while an older one waits";
        if (!s->running && s->n_pages) return "a sequence that does not run holds pages";
        if (s->n_whole > s->n_pages || s->n_sent > s->n_pages * KV_PAGE_TOKENS)
            return "a sequence has more rows than its pages hold";
        someone_waits |= !s->running && !s->ended;
        n_held += s->n_pages;
    }
    if (e->n_order != engine_active(e)) return "not all slots in use are in the order";
    return kv_pages_problem(&e->pages, n_held);
}
