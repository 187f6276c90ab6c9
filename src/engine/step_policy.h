// Which rows go into the next step: decisions alone, without a backend, a clock or memory.
//
// Chunks of prompts and draws alternate while both are waiting. Prompts take turns, a chunk each; all
// sequences that decode are in each of their steps, or take turns where a step has fewer rows.
//
// A cancellation waits for the steps that are under way, so where one takes longer than its target, a
// prompt's chunks go through the layers in slices, a step each, or, where the backend has no slices, are made
// smaller. Large chunks are faster (a 70B model on an H100: 3,800 tokens a second in chunks of 512, 2,000 in
// those of 128). How a prompt is cut does not change the result, to the bit.
#pragma once

#include "backend/backend.h"

enum {
    STEP_TARGET_GPU_NS = 80 * 1000 * 1000,
    // A processor's steps vary with what else runs there, so they aim lower.
    STEP_TARGET_CPU_NS = 40 * 1000 * 1000,
    // Chunks that take longer are not sent ahead: two under way would take twice the time, and what is lost
    // between them is little.
    STEP_AHEAD_NS = 10 * 1000 * 1000,
    CHUNK_TOKENS_MIN = 8,
    CHUNK_SLICES_FIRST = 16, // so that the first long prompt of the largest models can be cancelled, too
};

// What is left to be sent of a slot's sequence; all zeros for none.
typedef struct {
    uint32_t prompt_rows;
    bool decodes; // with prompt_rows 0: it has a token to draw
} SlotWork;

// One sequence's part of a step.
typedef struct {
    uint32_t slot;
    uint32_t prompt_rows; // of its prompt, a chunk; 0: it draws one token
    uint32_t n_slices, slice;
} StepPart;

// Today a chunk of a prompt is a step by itself.
typedef struct {
    StepPart parts[JOBS_MAX];
    uint32_t n_parts; // 0: there is nothing to do
} StepChoice;

typedef struct {
    // The chunk that is under way; its slices from `slice` on are still to be sent. Where there are some, no
    // other chunk may begin, unless this sequence has ended.
    StepPart chunk;
    uint32_t max_rows;
    uint32_t chunk_tokens; // what chunks have at most, and in how many slices such a one is computed
    uint32_t chunk_tokens_max;
    uint32_t chunk_slices;
    uint32_t chunk_slices_max;
    bool chunks_are_long; // the last step of one took longer than STEP_AHEAD_NS
    uint64_t target_ns;
    uint32_t next_prefill; // slot to look at first, so that prompts take turns
    uint32_t next_decode;  // the same for draws, where not all fit a step
    bool last_was_chunk;
} StepPolicy;

StepPolicy step_policy_for(const BackendInfo *info);

// The next step. What it chooses counts as sent: the caller sends it.
void step_policy_next(StepPolicy *p, const SlotWork *work, uint32_t n_slots, StepChoice *out);

// Whether a step may be sent while another is under way.
bool step_policy_sends_ahead(const StepPolicy *p);

// The sequence in a slot has ended.
void step_policy_forget(StepPolicy *p, uint32_t slot);

// How long a step took, from its being sent to its being read.
void step_policy_learn(StepPolicy *p, const StepChoice *step, uint64_t took_ns);
