// Checkpoints: copies of the state that a model's layers keep of a text, at borders of nodes (kv_pages.h).
// A text goes on from a node only where its state at the node's end is known, too.
//
// There are as many places for them as the backend has memory for. A checkpoint belongs to one node, and goes
// with it. It is written by the step that makes the state, and read behind the steps that were enqueued
// before. So nobody needs to hold one when its step has been enqueued: its place may be taken for another
// node at any time. Before (a chunk may take several steps) no other node gets it.
//
// Where a place is needed and none is free, checkpoints go first whose text went on in the same sequence,
// which has a later one; then those that were used longest ago.
//
// One thread calls everything; nothing is allocated after init, and no call takes longer for more places.
#pragma once

#include "base/arena.h"
#include "base/base.h"
#include "base/error.h"

enum { KV_NO_CHECKPOINT = 0xFFFFFFFF };

// In the order of their last use.
typedef enum {
    CHECKPOINTS_PASSED,
    CHECKPOINTS_KEPT,
    CHECKPOINTS_UNDER_WAY, // their steps are not enqueued yet
    CHECKPOINT_ORDERS
} CheckpointOrder;

typedef struct {
    uint32_t node; // KV_NO_CHECKPOINT: the place is free
    CheckpointOrder order;
    bool was_used;          // a text has gone on from it
    uint32_t before, after; // its neighbours there
} KvCheckpoint;

typedef struct {
    KvCheckpoint *places; // [n_places]
    uint32_t n_places;    // 0: there are no checkpoints
    uint32_t *of_node;    // [n_nodes] its place, or KV_NO_CHECKPOINT
    uint32_t *free;       // [n_free] places, a stack
    uint32_t n_free;
    struct {
        uint32_t first, last; // used longest ago, and last
    } orders[CHECKPOINT_ORDERS];
    uint64_t n_saved, n_restored, n_evicted; // since the start; evicted: for the sake of another one
} KvCheckpoints;

// All places are free. `arena` keeps the tables.
MUST_CHECK bool kv_checkpoints_init(KvCheckpoints *c, uint32_t n_places, uint32_t n_nodes, Arena *arena,
                                    Error *err);

// The place of a node's checkpoint, or KV_NO_CHECKPOINT.
static inline uint32_t kv_checkpoints_of(const KvCheckpoints *c, uint32_t node) {
    return c->n_places ? c->of_node[node] : KV_NO_CHECKPOINT;
}

// A place for a node that has none; it is under way. False: all places are. There are places.
bool kv_checkpoints_take(KvCheckpoints *c, uint32_t node);
// A text goes on from a node's checkpoint.
void kv_checkpoints_use(KvCheckpoints *c, uint32_t node);
// It is under way no more; or another sequence with the node's text would have left one there, and finds it.
void kv_checkpoints_renew(KvCheckpoints *c, uint32_t node);
// The text went on, and its sequence has a later one. Changes nothing of one that was used.
void kv_checkpoints_pass(KvCheckpoints *c, uint32_t node);
// Another node has the same text: it has the checkpoint from now on, where it had none.
void kv_checkpoints_move(KvCheckpoints *c, uint32_t from, uint32_t to);
// Frees the node's place, where it has one.
void kv_checkpoints_drop(KvCheckpoints *c, uint32_t node);
