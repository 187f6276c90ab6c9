// The folder of compiled kernels (jit.h). A failure is a sentence in `problem` and otherwise as if there was
// no cache.
#pragma once

#include "base/arena.h"
#include "base/error.h"

enum { JIT_CACHE_PATH_BYTES = 1024 };

typedef struct {
    char folder[JIT_CACHE_PATH_BYTES]; // empty: no cache
} JitCache;

// SHA-256 of everything that a compiled kernel depends on.
typedef struct {
    uint8_t bytes[32];
} JitKey;

// `folder` as JitOptions has it; made where it is missing. False with *problem set: it cannot be used, *out
// is empty.
bool jit_cache_open(const char *folder, JitCache *out, Error *problem);

// The content stored under a key, in `arena`. False when there is none; problem->code is then ERR_NONE, or
// says that a file was there and is damaged. A file that others could have written is none: kernels are
// programs.
bool jit_cache_load(const JitCache *cache, const JitKey *key, Arena *arena, Str *out, Error *problem);

// False with *problem set when it cannot be written. Uses `scratch`.
bool jit_cache_store(const JitCache *cache, const JitKey *key, Str content, Arena scratch, Error *problem);

// Removes what was not used for longest until the folder holds at most `max_bytes`, and what a killed process
// left half-written.
void jit_cache_trim(const JitCache *cache, uint64_t max_bytes, Arena scratch);
