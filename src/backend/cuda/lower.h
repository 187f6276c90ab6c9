// What lowering knows of a GPU, and which layers it refuses for being different. batch_lower.h makes the
// stages.
//
// Needs no GPU, only its figures, so that every program can be compiled and looked at on any machine.
#pragma once

#include "backend/cuda/devices.h"
#include "plan/plan.h"

// What a program is shaped by.
typedef struct {
    uint32_t sm;
    uint32_t multiprocessors;
    uint32_t shared_bytes_block;          // of one block, at most
    uint32_t shared_bytes_multiprocessor; // of all its blocks
} LowerTarget;

// Whether four warps can multiply together, an operand in shared memory (wgmma): sm_90a alone.
static inline bool lower_has_wgmma(const LowerTarget *t) {
    return t->sm == 90;
}

// Bytes from a page of the cache to the next one, of the same layer.
static inline uint64_t cuda_page_step(const KvLayout *kv) {
    return kv->is_mixed ? kv->n_places * kv->place_bytes : kv->place_bytes;
}

LowerTarget lower_target_of_device(const CudaDevice *device);
// A usual GPU of an architecture, for compiling without one: 75, 80, 86, 89 or 90.
LowerTarget lower_target_of_sm(uint32_t sm);

// How many copies of its codebooks (`bytes` each) a stage has in at most `most` bytes: a lane has one of
// them, and few lanes ask the same bank (tiles_codebooks.cuh). One where shared memory is scarce.
static inline uint32_t codebook_copies(const LowerTarget *t, uint32_t bytes, uint32_t most) {
    uint32_t copies = 1;
    while (t->sm >= 90 && bytes > 0 && copies < 32 && 2 * copies * bytes <= most)
        copies *= 2;
    return copies;
}

// Refuses (ERR_UNSUPPORTED) plans whose layers differ in what is laid out once for all of them: heads, the
// cache, the width of the feed-forward.
MUST_CHECK bool lower_check_layers(const Plan *plan, Error *err);
