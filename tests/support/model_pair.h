// A model on the CUDA backend and on the CPU reference, side by side.
#pragma once

#include "backend/backend.h"

enum { PAIR_SLOTS_MAX = 64, PAIR_PAGES_MAX = 512 };

typedef struct {
    Arena arena;
    Plan *plan;
    Backend *cpu, *gpu;
    uint32_t n_slots;
    uint32_t context;                               // tokens that a slot's pages hold
    uint32_t prompt_slices;                         // steps for each chunk of a prompt (StepSequence); 0: one
    uint32_t list_pages;                            // of a slot's pages, from one list to the next
    uint32_t pages[PAIR_SLOTS_MAX][PAIR_PAGES_MAX]; // of each slot: StepSequence.pages
} ModelPair;

// Options for the GPU of this machine, with a cache for a context in each slot. Skips the case where there is
// none. With EMULATED_GPU=1 in the environment it is the emulated one (emulated_gpu.h).
// With COMPILE_ONLY=1 it is one that runs nothing (fake_driver.h), and the case ends when its first model's
// kernels have been compiled.
BackendOptions model_gpu_options(uint32_t n_slots, uint32_t context);

// `file` is a GGUF and stays where it is. Each slot has the pages of kv_text_tokens; they are interleaved.
// Ends the case where one of the backends does not take the model.
ModelPair *model_pair_open(Str file, const BackendOptions *options);
ModelPair *model_pair_open_with(Str file, KvType type, const BackendOptions *options); // of the cache
// The same of a file that was read into the arena, which it takes over.
ModelPair *model_pair_open_file(const GgufFile *file, Arena arena, const BackendOptions *options);
void model_pair_close(ModelPair *p);

void model_begin(Backend *b, uint32_t slot, const SamplerParams *params, const int32_t *prompt, uint32_t n);

// Tokens (NULL: the one that the slot drew last) of a slot's sequence from `position` on; the logits of the
// last n_logits of them.
StepResult model_run(const ModelPair *p, Backend *b, uint32_t slot, const int32_t *tokens, uint32_t position,
                     uint32_t n, bool sample, uint32_t n_logits);

// A prompt in chunks of the given sizes (the last one as often as it takes), then the rest of `n` tokens,
// drawn one after the other. Fills tokens [n_prompt, n] and the logits after each of the n tokens. Where
// `logits` is NULL, as many steps are under way at a time as the backend takes.
void model_generate(const ModelPair *p, Backend *b, uint32_t slot, const SamplerParams *params,
                    int32_t *tokens, uint32_t n_prompt, uint32_t n, const uint32_t *chunks, uint32_t n_chunks,
                    float *logits);

// ||actual - expected|| / ||expected||; NaN where something is not a number.
double model_relative_error(const float *expected, const float *actual, uint64_t n);
