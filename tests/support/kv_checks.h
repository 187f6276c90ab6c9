// What always holds of the table of cache pages, whoever holds which.
#pragma once

#include "engine/kv_pages.h"

// The first thing that does not hold, or NULL: each page is free or a node's, once; each node, and each
// window, is free, cached or held, and is in the list that says so, once; the holders are n_held in all, and
// those of windows n_held_windows, where each list of nodes that is held counts every one once; the parent of
// a node is known, and is held where the node is; cached nodes were used before those that they continue.
const char *kv_pages_problem(const KvPages *p, uint64_t n_held, uint64_t n_held_windows);

// Likewise: a whole node is found by its tokens. (By itself, since it takes longer.)
const char *kv_pages_lookup_problem(const KvPages *p);
