#include "engine/kv_checkpoints.h"

#include <assert.h>

bool kv_checkpoints_init(KvCheckpoints *c, uint32_t n_places, uint32_t n_nodes, Arena *arena, Error *err) {
    *c = (KvCheckpoints){.n_places = n_places};
    for (uint32_t i = 0; i < CHECKPOINT_ORDERS; i++)
        c->orders[i].first = c->orders[i].last = KV_NO_CHECKPOINT;
    if (n_places == 0) return true;
    c->places = arena_new(arena, KvCheckpoint, n_places);
    c->free = arena_new(arena, uint32_t, n_places);
    c->of_node = arena_new(arena, uint32_t, n_nodes);
    if (!c->places || !c->free || !c->of_node)
        return error_set(err, ERR_NO_MEMORY, "the table of %u checkpoints does not fit its memory", n_places);
    for (uint32_t i = 0; i < n_nodes; i++)
        c->of_node[i] = KV_NO_CHECKPOINT;
    for (uint32_t i = n_places; i-- > 0;) { // the first places are taken first
        c->places[i].node = KV_NO_CHECKPOINT;
        c->free[c->n_free++] = i;
    }
    return true;
}

static void push(KvCheckpoints *c, uint32_t place, CheckpointOrder order) {
    uint32_t last = c->orders[order].last;
    KvCheckpoint *x = &c->places[place];
    x->order = order;
    x->before = last;
    x->after = KV_NO_CHECKPOINT;
    *(last == KV_NO_CHECKPOINT ? &c->orders[order].first : &c->places[last].after) = place;
    c->orders[order].last = place;
}

static void remove_from_order(KvCheckpoints *c, uint32_t place) {
    const KvCheckpoint *x = &c->places[place];
    uint32_t *before =
        x->before == KV_NO_CHECKPOINT ? &c->orders[x->order].first : &c->places[x->before].after;
    uint32_t *after = x->after == KV_NO_CHECKPOINT ? &c->orders[x->order].last : &c->places[x->after].before;
    *before = x->after;
    *after = x->before;
}

bool kv_checkpoints_take(KvCheckpoints *c, uint32_t node) {
    assert(c->n_places && c->of_node[node] == KV_NO_CHECKPOINT);
    if (c->n_free == 0) {
        uint32_t passed = c->orders[CHECKPOINTS_PASSED].first;
        uint32_t oldest = passed != KV_NO_CHECKPOINT ? passed : c->orders[CHECKPOINTS_KEPT].first;
        if (oldest == KV_NO_CHECKPOINT) return false;
        kv_checkpoints_drop(c, c->places[oldest].node);
        c->n_evicted++;
    }
    uint32_t place = c->free[--c->n_free];
    c->places[place] = (KvCheckpoint){.node = node};
    c->of_node[node] = place;
    push(c, place, CHECKPOINTS_UNDER_WAY);
    return true;
}

static void move_to_end(KvCheckpoints *c, uint32_t node, CheckpointOrder order) {
    uint32_t place = kv_checkpoints_of(c, node);
    if (place == KV_NO_CHECKPOINT) return;
    remove_from_order(c, place);
    push(c, place, order);
}

void kv_checkpoints_use(KvCheckpoints *c, uint32_t node) {
    c->places[c->of_node[node]].was_used = true;
    c->n_restored++;
    kv_checkpoints_renew(c, node);
}

void kv_checkpoints_renew(KvCheckpoints *c, uint32_t node) {
    uint32_t place = kv_checkpoints_of(c, node);
    c->n_saved += place != KV_NO_CHECKPOINT && c->places[place].order == CHECKPOINTS_UNDER_WAY;
    move_to_end(c, node, CHECKPOINTS_KEPT);
}

void kv_checkpoints_pass(KvCheckpoints *c, uint32_t node) {
    uint32_t place = kv_checkpoints_of(c, node);
    if (place == KV_NO_CHECKPOINT || c->places[place].was_used) return;
    move_to_end(c, node, CHECKPOINTS_PASSED);
}

void kv_checkpoints_move(KvCheckpoints *c, uint32_t from, uint32_t to) {
    uint32_t place = kv_checkpoints_of(c, from);
    if (place == KV_NO_CHECKPOINT || c->of_node[to] != KV_NO_CHECKPOINT) return;
    c->places[place].node = to;
    c->of_node[to] = place;
    c->of_node[from] = KV_NO_CHECKPOINT;
}

void kv_checkpoints_drop(KvCheckpoints *c, uint32_t node) {
    uint32_t place = kv_checkpoints_of(c, node);
    if (place == KV_NO_CHECKPOINT) return;
    remove_from_order(c, place);
    c->places[place].node = KV_NO_CHECKPOINT;
    c->of_node[node] = KV_NO_CHECKPOINT;
    c->free[c->n_free++] = place;
}
