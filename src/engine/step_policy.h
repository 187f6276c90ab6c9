// Which rows go into the next step: decisions alone, without a backend, a clock or memory.
//
// Every sequence that decodes is in each step (they take turns where a step has fewer rows). Beside them
// are rows of prompts, the oldest prompt's and, up to half, the shortest one's first: as many as there is
// time for. While nobody decodes, that is the target below. Beside tokens that others wait for, a step
// takes less than twice as long as without the prompts' rows, and at most STEP_BESIDE_NS, but has
// CHUNK_TOKENS_MIN rows of prompts all the same, half as many as draw, and more where few cost nearly as
// much as many. A step's time does not grow evenly with its rows (a GPU has classes of them, and tiles),
// so the time of each size of step is learned by itself.
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
    // Steps with prompts' rows beside draws take at most this.
    STEP_BESIDE_NS = 40 * 1000 * 1000,
    // Chunks that take longer are not sent ahead: two under way would take twice the time, and what is lost
    // between them is little.
    STEP_AHEAD_NS = 10 * 1000 * 1000,
    CHUNK_TOKENS_MIN = 8,
    CHUNK_SLICES_FIRST = 16, // so that the first long prompt of the largest models can be cancelled, too
    STEP_DRAWS_SIZES = 7,    // 1, 2, 4 … 64 draws
    STEP_ROWS_SIZES = 13,    // 1, 2, 4 … 4,096 rows
};

static_assert(1 << (STEP_DRAWS_SIZES - 1) >= JOBS_MAX, "a size for every number of draws");

// What is left to be sent of a sequence. Neither: nothing now.
typedef struct {
    uint32_t slot;
    uint32_t prompt_rows;
    bool decodes; // with prompt_rows 0: it has a token to draw
} SlotWork;

// One sequence's part of a step.
typedef struct {
    uint32_t slot;
    uint32_t prompt_rows; // of its prompt, a chunk; 0: it draws one token
    uint32_t n_slices, slice;
} StepPart;

// Prompts come first. A chunk in slices is the only one of its steps.
typedef struct {
    StepPart parts[JOBS_MAX];
    uint32_t n_parts; // 0: there is nothing to do
} StepChoice;

typedef struct {
    // The chunk that is under way; its slices from `slice` on are still to be sent. Where there are some, no
    // other chunk may begin, unless this sequence has ended.
    StepPart chunk;
    uint32_t max_rows;
    uint32_t rows_tile;    // as the backend has it
    uint32_t chunk_tokens; // while nobody decodes: what chunks have at most, and in how many slices
    uint32_t chunk_tokens_max;
    uint32_t chunk_slices;
    uint32_t chunk_slices_max;
    uint32_t beside_tokens_min; // prompts' rows beside draws
    bool chunks_are_long;       // the last step with prompts' rows took longer than STEP_AHEAD_NS
    bool last_has_prompts;
    uint64_t target_ns;
    uint64_t draws_ns[STEP_DRAWS_SIZES]; // what a step of so many draws alone takes; 0: not known
    uint64_t beside_ns[STEP_ROWS_SIZES]; // and one of so many rows where some are prompts' and some draw
    uint32_t next_decode;                // the slot whose turn it is, where not all that decode fit a step
} StepPolicy;

StepPolicy step_policy_for(const BackendInfo *info);

// The next step, for n sequences in the order of their admission. What it chooses counts as sent: the caller
// sends it.
void step_policy_next(StepPolicy *p, const SlotWork *work, uint32_t n, StepChoice *out);

// Whether a step may be sent while another is under way.
bool step_policy_sends_ahead(const StepPolicy *p);

// Whether slices of a chunk of the slot's are still to be sent.
bool step_policy_is_inside(const StepPolicy *p, uint32_t slot);

// The sequence in a slot has ended, or begins again.
void step_policy_forget(StepPolicy *p, uint32_t slot);

// How long a step took, from its being sent, or from the end of the one before it, to its end.
void step_policy_learn(StepPolicy *p, const StepChoice *step, uint64_t took_ns);
