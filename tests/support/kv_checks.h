// What always holds of the table of cache pages, whoever holds which.
#pragma once

#include "engine/kv_pages.h"

// The first thing that does not hold, or NULL: each page is free or held, never both and never neither; the
// list of free pages has each of them once; the holders are n_held in all, where each held list of pages
// counts every page once.
const char *kv_pages_problem(const KvPages *p, uint64_t n_held);
