// What a matcher knows of texts: frames, sets and states, each kept once.
//
// A reading of the text so far is a leaf's state on a stack of frames, one for each node that is open around
// it. Stacks share their lower parts: a frame has its parent's number, and equal frames have equal numbers. A
// state is the set of all readings. Everything is added at the end, so the newest can be taken back
// (pool_rewind), and a parent's number is lower than its child's.
#pragma once

#include "base/arena.h"

typedef struct {
    uint32_t parent; // frame 0 is the bottom: the text is complete
    uint32_t node;
    uint32_t at;  // how far the node is (grammar_step.c)
    uint32_t set; // of an object: which members were there; of an array: how many items matched, or, where
                  // they must differ, the frame of the newest one (grammar_unique.h)
    uint32_t depth;
    uint32_t next; // in its bucket
} Frame;

typedef struct {
    uint32_t stack; // the frame around the leaf
    uint32_t node;  // a leaf, or a node of tokens
    uint32_t dfa_state;
} Reading;

typedef struct {
    uint32_t first, count; // readings
    uint32_t next;
    uint32_t may_end;
} PoolState;

// Words at `first`: set_words of them.
typedef struct {
    uint32_t first, count;
    uint32_t next;
} PoolSet;

#define POOL_NONE UINT32_MAX // the pool is full

// How many there may be of each, all but set_words powers of two, or how many there are.
typedef struct {
    uint32_t frames, sets, states, readings, set_words;
} PoolCounts;

typedef struct {
    PoolCounts n, max;
    Frame *frames;
    PoolSet *sets; // set 0 has no words
    uint32_t *set_words;
    PoolState *states;
    Reading *readings;
    uint32_t *frame_buckets, *set_buckets, *state_buckets; // as many as entries
    uint32_t *moved;                                       // for pool_keep: the new number of each entry
} Pool;

uint64_t pool_bytes(PoolCounts max);
// False when the arena is full.
MUST_CHECK bool pool_init(Pool *p, PoolCounts max, Arena *arena);

// The number of the entry, or POOL_NONE.
uint32_t pool_frame(Pool *p, uint32_t parent, uint32_t node, uint32_t at, uint32_t set);
uint32_t pool_set(Pool *p, const uint32_t *words, uint32_t count);
// … of a set that is there already.
uint32_t pool_find_set(const Pool *p, const uint32_t *words, uint32_t count);
// The readings are in any order, each once.
uint32_t pool_state(Pool *p, Reading *readings, uint32_t count, bool may_end);

static inline PoolCounts pool_mark(const Pool *p) {
    return p->n;
}
// Forgets what was added since.
void pool_rewind(Pool *p, PoolCounts mark);

// What a frame of a node has in `set`.
typedef enum { POOL_REFERS_TO_NONE, POOL_REFERS_TO_SET, POOL_REFERS_TO_FRAME } PoolReference;

// Drops all but what state 0 and these need, and gives them their new numbers. `refers_to` [n_nodes]: a
// PoolReference each.
void pool_keep(Pool *p, uint32_t *states[], uint32_t count, const uint8_t *refers_to);
