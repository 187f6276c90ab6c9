// State of the CUDA backend, for its own files.
#pragma once

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/lower.h"

// The beginning of DecodeSequence: what the host sets for a row.
typedef struct {
    int32_t token;
    uint32_t position;
} RowPlace;

// What the host knows of a slot's sequence.
typedef struct {
    CUdeviceptr sequence; // DecodeSequence
    CUdeviceptr seen;     // [n_seen_words]
    CUdeviceptr pages;    // [pages_max]
    CUdeviceptr tokens;   // [TOKEN_RING] drawn, by step; the slots' lie side by side
    CUdeviceptr rules;    // SampleRules
    CUdeviceptr counts;   // [n_vocab] uint16_t
    CUdeviceptr logprobs; // [TOKEN_RING] SampleLogprobs, by step; the slots' lie side by side
    uint32_t n_draws;     // enqueued
    uint32_t generation;  // goes up with each sequence in this slot
    uint32_t *sent_pages; // [pages_max] what `pages` holds
    uint32_t n_sent_pages;
    bool greedy, adjusted;  // how its rows end
    bool has_logprobs;      // they are wanted
    TokenLogprobs told;     // StepRun.logprobs
    char invalid_text[160]; // StepRun.first_invalid
    CUgraphExec graphs[END_GRAPHS];
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
    Draw draws[JOBS_MAX];
    uint32_t n_drawing;
    bool has_logprobs; // one of them
    uint32_t n_logits;
} Flight;

enum { CELLS = 4, PIPELINE_DEPTH = 2, FLIGHTS = TOKEN_RING };

typedef struct {
    Backend api; // first, so that a Backend pointer is one to this
    BackendOptions options;
    Arena *arena;
    const Plan *plan;
    Cuda cuda;
    CudaDevice device;
    bool is_open; // the library
    CUcontext context;
    CUstream stream;
    CUstream fetch_stream; // tokens to the host, while the next step runs
    char runtime_version[16];

    Placement placement;
    Lowered lowered;
    Jit *jit;
    DeviceMemory memory;
    Kernel *kernels; // [lowered.n_programs]
    StageBuffers buffers;
    CUdeviceptr chunk_tokens; // [lowered.max_rows] of the chunk
    CUgraphExec prefill;      // a prompt's rows through the layers
    uint32_t n_pages;
    uint32_t pages_max; // of one sequence
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

    CudaObserver *observer;
    void *observer_context;
    CudaObserver *prompt_observer;
    void *prompt_observer_context;
} CudaBackend;

static inline CudaBackend *cuda_self(Backend *b) {
    return (CudaBackend *)b;
}

// The launches of one row that ends so. `args` and `launches` hold lowered.n_stages each. Returns how many
// there are.
uint32_t cuda_row_launches(CudaBackend *b, uint32_t slot, RowEnd end, StageArgs *args, Launch *launches,
                           const Stage **stages);

// The index-th stage of a prompt's chunk (whose rows they are is in the chunk). `args` is filled, and stays
// as long as the launch.
Launch cuda_chunk_launch(CudaBackend *b, uint32_t index, StageArgs *args);

// Where a row went wrong that drew no token: its first stage that left something else than numbers, for
// StepRun.first_invalid. *out is NULL where that cannot be told. Runs the row once more, stage by stage,
// which spoils the sequence's state: nothing but a new sequence may follow in its slot.
MUST_CHECK bool cuda_explain_invalid(CudaBackend *b, const Flight *flight, const Draw *draw, const char **out,
                                     Error *err);

// `size` bytes of device memory, in the scratch arena; NULL after an error.
void *cuda_fetch(CudaBackend *b, CUdeviceptr from, size_t size, Arena *scratch, Error *err);

// Index of value i of a position's keys (RESULT_KEYS) or values in its page (layout.h), heads of `dim`
// values.
size_t cuda_cached_at(uint32_t dim, uint32_t i, uint32_t position, ResultForm form);

// The rows of a chunk that is on the device, through the layers, stage by stage, each shown to the prompts'
// observer.
MUST_CHECK bool cuda_chunk_observed(CudaBackend *b, const StepSequence *q, Error *err);

// One row of a slot's sequence, stage by stage, each shown to the observer.
MUST_CHECK bool cuda_row_observed(CudaBackend *b, uint32_t slot, RowEnd end, uint32_t position, Error *err);
