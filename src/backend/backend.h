// An executor of plans: the CPU reference, or CUDA.
//
// A backend holds the weights, the KV cache (pages of KV_PAGE_TOKENS tokens, named by index), and one state a
// slot (what the sampler needs, and the last token drawn). It decides nothing: which sequence runs in which
// slot, in which pages, and in which step is the engine's business.
//
// Life: open (finds the device) → load (weights, cache, scratch; nothing is allocated after it) → any number
// of begin, step, read → close. One thread calls everything (the engine's); info() may be read by any thread
// after load.
//
// Same request, same tokens: what a row computes depends on its token, its position and its cache, and not on
// the other rows of the step or on how a prompt was cut into steps, to the bit.
#pragma once

#include "backend/sampler.h"
#include "base/error.h"
#include "base/limits.h"
#include "plan/plan.h"

typedef struct Backend Backend;
struct JitCompiler; // backend/cuda/jit.h

typedef struct {
    uint32_t n_slots;       // sequences at once, at most JOBS_MAX
    uint32_t max_rows;      // tokens a step
    uint64_t kv_bytes;      // for the cache; 0: as the backend sees fit
    uint64_t kv_tokens_max; // a cache for more tokens than this is of no use (slots times context)
    uint32_t n_threads;     // CPU: 0 for all processors
    int gpu_device;         // CUDA ordinal
    const char *jit_cache;  // CUDA: folder of compiled kernels; NULL: the user's cache folder, "": none
    const char *model_path; // for messages
    const struct JitCompiler *jit_compiler; // CUDA: for tests without a GPU; NULL for the one inside
} BackendOptions;

// What is known after load. All strings live as long as the backend.
typedef struct {
    const char *kind;        // "cpu" or "cuda"
    const char *device_name; // "NVIDIA H100 80GB HBM3", or the processor
    uint32_t sm;             // 90 for compute capability 9.0; 0 on the CPU
    const char *runtime_version;
    const char *driver_version;
    uint64_t vram_bytes_total; // on the CPU: 0
    uint64_t vram_bytes_used;  // the sum of what this backend allocated (on the CPU: of host memory for cache
                               // and scratch)
    uint32_t n_kv_pages;
    uint32_t max_rows;     // tokens a step
    uint32_t chunk_tokens; // of a prompt, in the first steps: the engine adapts them. 0: max_rows
    uint32_t chunk_parts;  // steps that a chunk may be computed in, at most; 0: one
    // Steps that may be enqueued before the first of them is read: 1 computes within step(), 2 overlaps.
    uint32_t pipeline_depth;
    double load_seconds;
    // CUDA: programs that were compiled, in seconds that passed; how many came from the cache instead; and
    // the one that took longest by itself ("": none was compiled).
    double jit_seconds;
    uint32_t jit_compiled, jit_from_cache;
    const char *jit_slowest;
    double jit_slowest_seconds;
    char warning[ERROR_MESSAGE_BYTES]; // what went wrong at load and did no harm, for the log; empty for
                                       // nothing
} BackendInfo;

// One sequence's part of a step.
typedef struct {
    uint32_t slot;
    uint32_t position;     // of the first row
    uint32_t n_tokens;     // rows
    const int32_t *tokens; // [n_tokens], or NULL: one row, the token that this slot drew last
    const uint32_t *pages; // [div_up(position + n_tokens, KV_PAGE_TOKENS)] the sequence's pages, in order
    // A prompt's rows go through the layers in so many steps of about the same length, and this is the
    // part-th; 0 for all in this one. The steps differ in nothing else, and no other prompt's rows come
    // between them.
    uint32_t n_parts, part;
    bool sample;       // draw a token from the last row; with the last part
    uint32_t n_logits; // the last n_logits rows' logits are kept for read; only in a step of one sequence
                       // (tools, tests)
} StepSequence;

static inline bool step_is_whole(const StepSequence *q) {
    return q->part + 1 >= q->n_parts;
}

typedef struct {
    const StepSequence *sequences; // at most one a slot
    uint32_t n_sequences;
} Step;

enum { TOKEN_INVALID = -1 }; // drawn where the logits were not numbers

typedef struct {
    uint32_t n_tokens;
    int32_t tokens[JOBS_MAX]; // drawn, in the order of the step's sequences that asked for it
    const float *logits; // [n_logits][n_vocab], valid until the next step; NULL where none were asked for
    uint32_t n_logits;
    // With a TOKEN_INVALID: the first operation of the step that computed something else than numbers, such
    // as "layer 3, MATMUL with blk.3.ffn_down.weight"; NULL where that is not known. Valid until the next
    // step.
    const char *first_invalid;
} StepResult;

// 0 … 1000 thousandths of the weights are loaded.
typedef void BackendProgressFn(void *context, uint32_t permille);

struct Backend {
    bool (*load)(Backend *b, const Plan *plan, BackendProgressFn *progress, void *context, Error *err);
    // A new sequence in `slot`: its sampler's parameters and its prompt (for the repetition penalty).
    bool (*begin)(Backend *b, uint32_t slot, const SamplerParams *params, const int32_t *prompt,
                  uint32_t n_prompt, Error *err);
    // Enqueues a step. The arrays it points to are copied before it returns.
    bool (*step)(Backend *b, const Step *step, Error *err);
    // Waits for the oldest step not yet read. ERR_CUDA means that the device is lost.
    bool (*read)(Backend *b, StepResult *out, Error *err);
    // Whether all the device's memory is where it should be, by asking the device; false names what is not.
    // Not while a step is being enqueued. NULL where there is no device.
    bool (*check_residency)(Backend *b, Error *err);
    void (*close)(Backend *b);
    BackendInfo info;
};

// What a backend holds of a device's own memory: nothing, on the CPU.
static inline uint64_t backend_vram_bytes(const BackendInfo *info) {
    return info->vram_bytes_total ? info->vram_bytes_used : 0;
}

// The backend's own state is in the arena. `arena` outlives it.
MUST_CHECK bool cpu_backend_open(const BackendOptions *options, Arena *arena, Backend **out, Error *err);
#if WORKER_ORCD_CUDA
MUST_CHECK bool cuda_backend_open(const BackendOptions *options, Arena *arena, Backend **out, Error *err);
#endif
