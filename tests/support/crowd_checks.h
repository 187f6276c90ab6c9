// Jobs in a crowd: whatever runs beside a job, however its prompt is cut, whether its beginning is cached,
// and whether it is set aside and goes on, it draws the same tokens with the same log-probabilities, to the
// bit.
//
// A few texts are drawn alone first, by an engine with an empty cache. Then each is drawn twice among random
// companions that begin as they do, come and go, and are cancelled, by an engine whose pages do not suffice
// for all. Its clock says anything, so chunks have any size. All follows from the seed.
#pragma once

#include "backend/backend.h"
#include "text/tokenizer.h"

// What is broken on purpose, to see that the checks see it.
typedef enum {
    CROWD_FAULT_NONE,
    CROWD_FAULT_LOST_COPIES,  // pages are not copied
    CROWD_FAULT_WRITTEN_OVER, // cached pages are written to
    CROWD_FAULT_LOST_STATES,  // checkpoints are not written
} CrowdFault;

typedef struct {
    uint64_t seed;
    uint32_t crowd;    // sequences at once, at most; the backend has as many slots
    uint32_t n_pages;  // of the backend's, for the engine; with windows as many more as the same texts need
    uint32_t max_rows; // of a step
    uint32_t n_texts;  // 1 … CROWD_TEXTS
    CrowdFault fault;
    // With a tokenizer every other text and companion is held to one of two grammars, of which each has a
    // copy of its own, as requests do.
    const Tokenizer *tokenizer;
} CrowdConfig;

typedef struct {
    uint32_t differ; // texts of 2 * n_texts that were not drawn as alone
    uint32_t steps;
    uint32_t set_aside; // times that one of the texts began again
    uint32_t cached;    // tokens of the texts' prompts that were in the cache
    uint32_t companions;
} CrowdReport;

enum { CROWD_TEXTS = 4, CROWD_CONTEXT = 96 };

// A vocabulary of n tokens, 50 at least: a character each that the grammars need, others, and an end token.
const Tokenizer *crowd_tokenizer(Arena *arena, uint32_t n);

// The model's context is at least CROWD_CONTEXT. `arena` is scratch.
CrowdReport crowd_run(Backend *b, const Plan *plan, Arena arena, const CrowdConfig *config);
