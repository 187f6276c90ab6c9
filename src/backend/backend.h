// An executor of plans: the CPU reference, or CUDA.
//
// A backend holds the weights, the KV cache (pages as plan/kv_layout.h says, named by index), and one state a
// slot (what the sampler needs, and the last token drawn). It decides nothing: which sequence runs in which
// slot, in which pages, and in which step is the engine's business.
//
// A step is rows. A row is one token at one position of one sequence; a sequence's part of a step is a span
// of consecutive rows. Its mode says where the tokens come from and what is drawn. The results are runs: for
// each sequence that draws, the tokens that it drew.
//
// Life: open (finds the device) → load (weights, cache, scratch; nothing is allocated after it) → any number
// of begin, copy_page, restore_state, step, read → close. One thread calls everything (the
// engine's). `info` is written by open and load alone, so any thread may read it after load.
//
// Same request, same tokens: what a row computes depends on its token, its position and its cache, and not on
// the other rows of the step or on how a prompt was cut into steps, to the bit. (Not where a library
// multiplies: BackendInfo.bits_vary.)
#pragma once

#include "backend/sampler.h"
#include "base/error.h"
#include "base/limits.h"
#include "plan/plan.h"

typedef struct Backend Backend;
struct JitCompiler;    // backend/cuda/jit.h
struct ProductLibrary; // backend/cuda/product_library.h

typedef struct {
    uint32_t n_slots; // sequences at once, at most JOBS_MAX
    // 0: there are n_slots. Else there are as many of them, one at least, as the cache holds with so many
    // tokens for each: see BackendInfo.n_slots.
    uint32_t slot_tokens;
    uint32_t max_rows;         // of a step, in all
    uint64_t kv_bytes;         // for the cache; 0: as the backend sees fit
    uint64_t checkpoint_bytes; // for checkpoints of states; 0: CHECKPOINTS_A_SLOT for each slot
    // A cache for more than so many texts of so many tokens is of no use (slots, context).
    uint64_t kv_texts, kv_text_tokens;
    uint32_t n_threads;     // CPU: 0 for all processors
    int gpu_device;         // CUDA ordinal
    const char *jit_cache;  // CUDA: folder of compiled kernels; NULL: the user's cache folder, "": none
    const char *model_path; // for messages
    // CPU: asked between operations; true ends the step with ERR_CANCELLED. NULL: steps are never cut short.
    bool (*stopped)(void);
    const struct JitCompiler *jit_compiler; // CUDA: for tests without a GPU; NULL for the one inside
    // CUDA: what multiplies prompts' rows (library_products.h); NULL: the stages do. (BackendInfo.bits_vary)
    const struct ProductLibrary *products;
    // CUDA, NULL for nobody: called on the engine's thread with what went wrong after load and did no harm.
    void (*warn)(void *context, const char *message);
    void *warn_context;
} BackendOptions;

// Rows of prompts in a step, at most, where a step has max_rows.
static inline uint32_t backend_chunk_rows(uint32_t max_rows) {
    return (uint32_t)min_u64(max_rows, PREFILL_CHUNK_TOKENS);
}

// The pages of a cache that is for as much as is of use.
static inline uint64_t backend_pages_of_use(const BackendOptions *o, const KvLayout *l) {
    return o->kv_texts * kv_layout_pages(l, o->kv_text_tokens, backend_chunk_rows(o->max_rows));
}

// How many slots there are with a cache of so many pages.
static inline uint32_t backend_slots_held(const BackendOptions *o, const KvLayout *l, uint64_t n_pages) {
    if (!o->slot_tokens) return o->n_slots;
    uint64_t held = kv_layout_texts(l, n_pages, o->slot_tokens, backend_chunk_rows(o->max_rows));
    return (uint32_t)max_u64(min_u64(held, o->n_slots), 1);
}

// Checkpoints of a slot's state of so many bytes. (One at the end of a prompt, near its first and its last
// message, and at the end of what is drawn.)
enum { CHECKPOINTS_A_SLOT = 4, CHECKPOINTS_MAX = 1 << 15 };
static inline uint32_t backend_checkpoints(const BackendOptions *o, uint64_t state_bytes) {
    if (state_bytes == 0) return 0;
    uint64_t n = o->checkpoint_bytes ? o->checkpoint_bytes / state_bytes : CHECKPOINTS_A_SLOT * o->n_slots;
    return (uint32_t)min_u64(n, CHECKPOINTS_MAX);
}

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
    // What multiplies prompts' rows: a library, "cuBLAS 13.1.0"; "own" or NULL: the backend itself. Known
    // before load.
    const char *products;
    // A row's values depend on how many rows go with it: the same request may give other tokens, and no text
    // goes on from another's cache.
    bool bits_vary;
    uint32_t n_slots; // sequences at once; before load, the most that there may be
    uint32_t n_kv_pages;
    // Places for copies of a slot's state, and bytes of each; 0 of a model without states, and of a backend
    // that has no restore_state.
    uint32_t n_checkpoints;
    uint64_t checkpoint_bytes;
    uint32_t max_rows; // of a step, in all
    // CUDA: rows of several sequences that go through the layers together, at most.
    uint32_t rows_together;
    // CUDA: a step with prompts' rows takes as long as one of so many in all, if it has fewer. 0: every row
    // counts.
    uint32_t rows_tile;
    uint32_t max_draws;    // of one sequence in a step; 0 counts as 1
    bool masks;            // StepSequence.mask is taken
    bool late_masks;       // Step.masks_come_later is
    uint32_t chunk_tokens; // of a prompt, in the first steps: the engine adapts them. 0: max_rows
    uint32_t chunk_slices; // steps that a chunk may be computed in, at most; 0: one
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

// What the rows of a sequence are in a step.
typedef enum {
    // Rows first … first + n_rows - 1 of a text that is known: a prompt, or the history of a text that goes
    // on. n_draws is 0, or 1 with the last row of the text.
    STEP_PROMPT,
    // The token that this slot drew last, which the host may not have read yet; then its n_draws - 1
    // successors, each fed as it is drawn.
    STEP_DECODE,
    // The token that this slot drew last and guesses of what follows it: every row draws, and the host keeps
    // the draws up to the first wrong guess. No backend does this yet.
    STEP_VERIFY,
} StepMode;

// The state behind a part's first n_rows rows, which end a page, is kept as a checkpoint, too.
typedef struct {
    uint32_t n_rows;
    uint32_t place; // below BackendInfo.n_checkpoints; no other of the step has it
} StepKeep;

// One sequence's part of a step.
typedef struct {
    uint32_t slot;
    StepMode mode;
    uint32_t position;     // of the first row
    uint32_t n_rows;       // STEP_DECODE: 1
    const int32_t *tokens; // [n_rows]; STEP_DECODE: NULL
    // The sequence's lists of pages, list_pages apart, each up to the page of the last row. What a list with
    // a window has before kv_layout_first_page(position) means nothing.
    const uint32_t *pages;
    uint32_t list_pages;
    // A chunk of a prompt may be computed by slices of the layers: this step runs slice `slice` of n_slices,
    // 0 means all layers. The steps of a chunk differ in nothing else, and no other prompt's rows come
    // between them.
    uint32_t n_slices, slice;
    uint32_t n_draws; // tokens to draw, at most BackendInfo.max_draws; only with the last slice
    // [token_set_words(n_vocab)] the tokens that may be drawn, a set as in sampler.h. Each draw of a sequence
    // that began with SequenceStart.masked has one, and n_draws is 1 then; NULL for all others.
    const uint32_t *mask;
    StepKeep keeps[STEP_KEEPS_MAX]; // n_keeps, ascending; none where BackendInfo.n_checkpoints is 0
    uint32_t n_keeps;
    // The last n_logits rows' logits are kept for read; only in a step of one sequence (tools, tests).
    uint32_t n_logits;
} StepSequence;

// Pages of a list that a step with this part names: from the one it reads first, up to the last row's.
static inline uint32_t step_first_page(const StepSequence *q, const KvLayout *l, uint32_t list) {
    return list < l->n_full ? 0 : kv_layout_first_page(l, q->position);
}
static inline uint32_t step_end_page(const StepSequence *q) {
    return (uint32_t)kv_pages_of((uint64_t)q->position + q->n_rows);
}

static inline bool step_is_last_slice(const StepSequence *q) {
    return q->slice + 1 >= q->n_slices;
}

typedef struct {
    const StepSequence *sequences; // at most one a slot
    uint32_t n_sequences;
    // The masks are not known yet. The layers begin, and `draw` gives the masks of all sequences.
    bool masks_come_later;
} Step;

enum { TOKEN_INVALID = -1 }; // drawn where the logits were not numbers

// What a step brought for one sequence.
typedef struct {
    uint32_t slot;
    uint32_t n_tokens;
    int32_t tokens[STEP_DRAWS_MAX]; // in the order in which they were drawn
    const TokenLogprobs *logprobs;  // [n_tokens], valid until the next step; NULL where none were asked for
    // With a TOKEN_INVALID: the first operation of the step that computed something else than numbers for
    // this sequence, such as "layer 3, MATMUL with blk.3.ffn_down.weight"; NULL where that is not known.
    // Valid until the next step.
    const char *first_invalid;
} StepRun;

typedef struct {
    uint32_t n_runs;
    StepRun runs[JOBS_MAX]; // one for each sequence of the step that draws, in their order
    const float *logits;    // [n_logits][n_vocab], valid until the next step; NULL where none were asked for
    uint32_t n_logits;
} StepResult;

// How a text begins in a slot. A text that was set aside begins with everything it had: `tokens` holds its
// prompt and what it has drawn. What of it is not in the cache any more goes through STEP_PROMPT rows again.
//
// The sampler goes on exactly where it was: the number of the draw, the tokens seen and their counts depend
// on these fields alone, and not on which rows are computed. Prompts and draws have one arithmetic, so the
// text continues as if it had not been interrupted, to the bit.
typedef struct {
    SamplerParams params;
    const int32_t *tokens; // [n_prompt + n_drawn]; read before begin returns
    uint32_t n_prompt;
    uint32_t n_drawn; // 0 for a new text
    bool masked;      // each of its draws has a mask
} SequenceStart;

// 0 … 1000 thousandths of the weights are loaded.
typedef void BackendProgressFn(void *context, uint32_t permille);

struct Backend {
    bool (*load)(Backend *b, const Plan *plan, BackendProgressFn *progress, void *context, Error *err);
    // A new text in `slot`. Its rows come with the steps that follow.
    bool (*begin)(Backend *b, uint32_t slot, const SequenceStart *start, Error *err);
    // Enqueues the copy of a page of the cache, all caches in it: behind the steps enqueued so far, and
    // before the next one.
    bool (*copy_page)(Backend *b, uint32_t from, uint32_t to, Error *err);
    // Enqueues the copy of a checkpoint to a slot's state: behind the steps enqueued so far, and before the
    // next one. NULL where BackendInfo.n_checkpoints is 0.
    bool (*restore_state)(Backend *b, uint32_t slot, uint32_t checkpoint, Error *err);
    // Enqueues a step. The arrays it points to are copied before it returns. ERR_UNSUPPORTED for a mode or a
    // number of draws that this backend does not have.
    bool (*step)(Backend *b, const Step *step, Error *err);
    // Gives the step that was enqueued last, with masks_come_later, its masks, and enqueues what is left of
    // it. masks: [n_sequences] of that step, copied before it returns; NULL for sequences without a mask, and
    // where nobody will look at what is drawn. Between that step and this call no text begins and no other
    // step is enqueued; those before it may be read. NULL where BackendInfo.late_masks is false.
    bool (*draw)(Backend *b, const uint32_t *const *masks, Error *err);
    // Waits for the oldest step not yet read. ERR_CUDA means that the device is lost.
    bool (*read)(Backend *b, StepResult *out, Error *err);
    // Whether all the device's memory is where it should be, by asking the device; false names what is not.
    // Not while a step is being enqueued. NULL where there is no device.
    bool (*check_residency)(Backend *b, Error *err);
    void (*close)(Backend *b);
    BackendInfo info;
};

// Tokens of a text that has the whole cache for itself: the model's context, or less.
static inline uint32_t backend_context(const BackendInfo *info, const Plan *plan) {
    return kv_layout_tokens(&plan->kv, info->n_kv_pages, backend_chunk_rows(info->max_rows), plan->n_context);
}

// BackendInfo.products, also of a backend that says nothing of it.
static inline const char *backend_products(const BackendInfo *info) {
    return info->products ? info->products : "own";
}

// What all checkpoints take together.
static inline uint64_t backend_checkpoint_bytes(const BackendInfo *info) {
    return info->n_checkpoints * info->checkpoint_bytes;
}

// What a backend holds of a device's own memory: nothing, on the CPU.
static inline uint64_t backend_vram_bytes(const BackendInfo *info) {
    return info->vram_bytes_total ? info->vram_bytes_used : 0;
}

// What every backend asks of a step before it looks at it: rows and sequences within its limits, each slot at
// most once, and fields that fit their mode. ERR_INTERNAL for a step that the engine should not have made,
// ERR_UNSUPPORTED for a mode or a number of draws that `info` does not have.
MUST_CHECK bool step_check(const Step *step, const BackendInfo *info, Error *err);

// The backend's own state is in the arena. `arena` outlives it.
MUST_CHECK bool cpu_backend_open(const BackendOptions *options, Arena *arena, Backend **out, Error *err);
// Only in a build with CUDA.
MUST_CHECK bool cuda_backend_open(const BackendOptions *options, Arena *arena, Backend **out, Error *err);
