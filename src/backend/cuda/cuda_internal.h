// State of the CUDA backend, for its own files: cuda_load.c makes it, cuda_step.c runs steps with it,
// cuda_inspect.c looks into it, cuda_backend.c puts these together.
#pragma once

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/lower.h"

// Pages of a list that the device has: from `first` on, to before `end`.
typedef struct {
    uint32_t first, end;
} SentList;

// What the host knows of a slot's sequence.
typedef struct {
    CUdeviceptr seen;     // [n_seen_words]
    CUdeviceptr pages;    // [lists][pages_max] a row of the page table
    CUdeviceptr tokens;   // [TOKEN_RING] drawn, by step; the slots' lie side by side
    CUdeviceptr rules;    // SampleRules
    CUdeviceptr counts;   // [n_vocab] uint16_t
    CUdeviceptr logprobs; // [TOKEN_RING] SampleLogprobs, by step; the slots' lie side by side
    CUdeviceptr mask;     // [n_seen_words] of its next draw; the slots' lie side by side
    uint32_t n_draws;     // enqueued
    uint32_t generation;  // goes up with each sequence in this slot
    uint32_t *sent_pages; // [lists][pages_max] what `pages` holds
    SentList sent[KV_LISTS_MAX];
    bool greedy, adjusted;  // how its rows end
    bool uncut;             // sampled of all that may be drawn: DRAW_UNCUT
    bool masked;            // each of its draws has a mask
    bool has_logprobs;      // they are wanted
    TokenLogprobs told;     // StepRun.logprobs
    char invalid_text[160]; // StepRun.first_invalid
} Slot;

// Pinned memory from which a step (or a new sequence) is sent; used again when the copies out of it are done.
typedef struct {
    uint8_t *bytes;
    size_t used;
    CUevent sent;
} Cell;

// A row that draws a token.
typedef struct {
    uint32_t slot, generation;
    uint32_t place; // of the token in the slot's ring
    uint32_t position;
    int32_t token; // the row's own; TOKEN_INVALID for the one that the slot drew before
    bool logprobs;
} Draw;

// A step under way.
typedef struct {
    int32_t *tokens;          // pinned, [n_slots][TOKEN_RING]
    SampleLogprobs *logprobs; // likewise
    CUevent ran;
    CUevent fetched;
    CUevent masks_sent;
    Draw draws[JOBS_MAX];
    uint32_t n_drawing;
    bool has_logprobs; // one of them
    uint32_t n_logits;
    bool waits; // for its masks: what is behind the layers has not been enqueued
} Flight;

enum { CELLS = 4, PIPELINE_DEPTH = 2, FLIGHTS = TOKEN_RING };

// What the host knows of a row on the device.
typedef struct {
    uint32_t slot_and_1; // 0: nothing
    uint32_t generation, position, step;
} PlacedRow;

typedef struct CudaBackend CudaBackend;
typedef struct CudaBatches CudaBatches; // cuda_batch.h
typedef struct CudaClock CudaClock;     // cuda_clock.h

// Runs a sequence's part of a step; its pages are there. Notes in the flight what it draws.
typedef bool CudaRunPart(CudaBackend *b, Cell *cell, const StepSequence *q, Flight *flight, Error *err);
// Says where a row went wrong that drew no token (cuda_inspect.h).
typedef bool CudaExplainInvalid(CudaBackend *b, const Flight *flight, const Draw *draw, const char **out,
                                Error *err);

struct CudaBackend {
    Backend api; // first, so that a Backend pointer is one to this
    BackendOptions options;
    Arena *arena;     // of what stays; not for scratch once load has returned: its owner has some there
    Arena inspection; // for values that are looked at
    const Plan *plan;
    Cuda cuda;
    CudaDevice device;
    bool is_open; // the library
    CUcontext context;
    CUstream stream;
    CUstream copy_stream; // beside the steps: tokens to the host, masks to the device
    char runtime_version[16];
    char products_name[48]; // BackendInfo.products

    Placement placement;
    CudaBatches *batches;
    Jit *jit;
    DeviceMemory memory;
    CUdeviceptr weights; // the region
    CUdeviceptr kv;      // [places][pages] of KvLayout.place_bytes
    uint64_t kv_place_bytes;
    uint32_t n_pages;
    uint32_t pages_max;   // of one sequence, in a list
    CUdeviceptr states;   // [slots + checkpoints][slot_floats] what layers with a state keep
    uint64_t slot_floats; // a multiple of 64: 256 bytes
    uint32_t n_checkpoints;
    uint32_t n_seen_words;
    bool overlap;

    Slot *slots;
    uint8_t *pinned;
    size_t cell_bytes;
    Cell cells[CELLS];
    uint32_t next_cell;
    Flight flights[FLIGHTS]; // ring
    uint32_t first_flight;
    uint32_t n_flights;
    float *logits; // host, [max_rows][n_vocab]; touched when a step wants logits
    uint64_t logits_bytes;

    CudaClock *clock; // NULL: it was not opened

    CudaRunPart *run_part; // of who looks at each stage; NULL: nobody does
    CudaExplainInvalid *explain_invalid;
    CudaObserver *observer;
    void *observer_context;
};

// What layers with a state keep of a sequence.
static inline uint64_t cuda_state_bytes(const CudaBackend *b) {
    return b->slot_floats * sizeof(float);
}

static inline CudaBackend *cuda_self(Backend *b) {
    return (CudaBackend *)b;
}

// The rings of all slots.
static inline uint64_t cuda_tokens_bytes(const CudaBackend *b) {
    return (uint64_t)b->options.n_slots * TOKEN_RING * sizeof(int32_t);
}

static inline uint64_t cuda_masks_bytes(const CudaBackend *b) {
    return (uint64_t)b->options.n_slots * b->n_seen_words * sizeof(uint32_t);
}

static inline uint64_t cuda_logprobs_bytes(const CudaBackend *b) {
    return (uint64_t)b->options.n_slots * TOKEN_RING * sizeof(SampleLogprobs);
}
