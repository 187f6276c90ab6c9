// What loading a model would take of a GPU's memory, by the arithmetic of loading itself, without a GPU.
#pragma once

#include "backend/backend.h"
#include "backend/cuda/lower.h"

typedef struct {
    uint64_t weights_bytes; // as they are placed
    uint64_t work_bytes;    // activations, logits, the sequences' state
    uint64_t states_bytes;  // what layers with a state keep: of all slots, and checkpoints
    uint32_t n_checkpoints;
    uint64_t staging_bytes; // of the upload; given back after it
    uint64_t reserve_bytes; // left to the driver
    uint64_t kv_page_bytes; // a page of plan.kv
    uint64_t kv_bytes;      // the cache that would be made
    uint32_t n_kv_pages;
    uint32_t n_slots; // BackendInfo.n_slots
    bool fits;        // all of it into `available`
} CudaFit;

static inline uint64_t cuda_fit_others(const CudaFit *f) {
    return f->weights_bytes + f->work_bytes + f->states_bytes + f->staging_bytes + f->reserve_bytes;
}

// `options` as for opening a backend, `available` bytes as the driver would say are free. Errors:
// ERR_UNSUPPORTED for what no kernel takes; ERR_NO_MEMORY.
MUST_CHECK bool cuda_fit(const BackendOptions *options, const Plan *plan, const LowerTarget *target,
                         uint64_t available, Arena *arena, CudaFit *out, Error *err);
