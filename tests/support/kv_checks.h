// What always holds of the table of cache pages, whoever holds which.
#pragma once

#include "engine/kv_pages.h"

// The first thing that does not hold, or NULL: each page is free, cached or held, and is in the list that
// says so, once; the holders are n_held in all, where each held list of pages counts every page once; the
// parent of a page is known, and is held where the page is; cached pages were used before those that they
// continue.
const char *kv_pages_problem(const KvPages *p, uint64_t n_held);

// Likewise: a whole page is found by its tokens. (By itself, since it takes longer.)
const char *kv_pages_lookup_problem(const KvPages *p);
