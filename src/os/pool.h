// A pool of threads that runs one function over a range of items; the caller works along.
//
// One pool, one caller at a time. A range is cut into pieces, which whoever has time takes one by one, so a
// thread that does not get a processor (other programs want them, too) holds nobody up but for the piece that
// it has in hand. Who has nothing to do spins shortly, then sleeps: a decoded token is some two hundred
// ranges of 20 to 500 µs each, and waking a sleeping thread costs about as much as the short ones.
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "base/limits.h"
#include "os/os.h"

// Works on items [from, to). `thread` is below n_threads and names the scratch that the call may use.
typedef void PoolFn(void *context, uint32_t thread, uint32_t from, uint32_t to);

typedef struct Pool Pool;

// `name` is that of its threads, at most 15 bytes. `n_threads` counts the caller.
MUST_CHECK bool pool_create(uint32_t n_threads, const char *name, Arena *arena, Pool **out, Error *err);
void pool_destroy(Pool *pool);
uint32_t pool_thread_count(const Pool *pool);

// Runs fn over items [0, n_items) in pieces of at most `grain` items and returns when all are done.
void pool_run(Pool *pool, PoolFn *fn, void *context, uint32_t n_items, uint32_t grain);
