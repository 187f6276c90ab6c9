#include "api/grammar_cache.h"

#include "os/os.h"

#include <assert.h>

bool grammar_cache_create(GrammarCache *c, uint32_t n_requests, Arena *arena) {
    *c = (GrammarCache){.count = n_requests + HELD_IDLE_MAX};
    c->entries = arena_new(arena, HeldGrammar, c->count);
    for (uint32_t i = 0; c->entries && i < c->count; i++) {
        c->entries[i].arena = os_arena(STRUCTURED_BYTES_MAX); // most of it is never touched
        c->entries[i].memory = c->entries[i].arena.next;
        if (!c->entries[i].memory) return false;
    }
    return c->entries != NULL;
}

static size_t bytes_of(const HeldGrammar *g) {
    return (size_t)(g->arena.next - g->memory);
}

static void forget(HeldGrammar *g) {
    assert(g->n_users == 0);
    os_discard(g->memory, bytes_of(g));
    g->arena.next = g->memory;
    g->grammar = NULL;
    g->state = HELD_FREE;
}

// The idle one that was used longest ago; free ones come before all others.
static HeldGrammar *oldest_idle(GrammarCache *c, bool with_free) {
    HeldGrammar *oldest = NULL;
    for (uint32_t i = 0; i < c->count; i++) {
        HeldGrammar *g = &c->entries[i];
        bool is_free = g->state == HELD_FREE;
        if (g->n_users || (is_free && !with_free)) continue;
        if (is_free) return g;
        if (!oldest || g->used_at < oldest->used_at) oldest = g;
    }
    return oldest;
}

HeldGrammar *grammar_cache_take(GrammarCache *c, const uint8_t key[GRAMMAR_KEY_BYTES]) {
    HeldGrammar *found = NULL;
    for (uint32_t i = 0; i < c->count && !found; i++) {
        HeldGrammar *g = &c->entries[i];
        if (g->state != HELD_FREE && memcmp(g->key, key, GRAMMAR_KEY_BYTES) == 0) found = g;
    }
    if (!found) {
        found = oldest_idle(c, true);
        assert(found); // there are more than requests
        if (found->state != HELD_FREE) forget(found);
        memcpy(found->key, key, GRAMMAR_KEY_BYTES);
    }
    found->n_users++;
    found->used_at = ++c->uses;
    return found;
}

void grammar_cache_release(GrammarCache *c, HeldGrammar *g, bool forgets) {
    size_t idle_bytes = 0;
    assert(g->n_users);
    g->n_users--;
    if (g->n_users == 0 && forgets) forget(g);
    for (uint32_t i = 0; i < c->count; i++)
        if (c->entries[i].n_users == 0) idle_bytes += bytes_of(&c->entries[i]);
    while (idle_bytes > HELD_IDLE_BYTES_MAX) {
        HeldGrammar *oldest = oldest_idle(c, false);
        idle_bytes -= bytes_of(oldest);
        forget(oldest);
    }
}
