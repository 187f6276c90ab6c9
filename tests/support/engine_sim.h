// The engine among invented jobs, over an executor that keeps tokens in its pages instead of keys and values.
//
// Each position of each page has the token that was written there. A row that reads a page must find the
// tokens of its own sequence's text, written for its own salt, at every position before it (in lists with a
// window, at those that are in it, of nodes whose window the sequence holds); what is drawn
// follows from the text alone. So a job's output is known before, whatever is shared, copied, evicted, set
// aside or cut. Jobs come and go at random: lengths, beginnings in common, salts, cancellations. Steps take
// virtual time by their rows.
//
// Where there are checkpoints, a slot has a state, too: how many rows it has seen, and a hash of their
// tokens. A row must find the state behind the row before it, and who draws the one of its text.
//
// Checked after each step: engine_invariants.h; that who decodes, and the oldest of all, goes on within a few
// steps; the budget of rows beside draws. Checked of each job: all its tokens, in order. Checked at the end:
// every job has ended, no page is held, and all are free when the cache is dropped.
#pragma once

#include "base/base.h"

// What is broken on purpose, to see that the checks see it.
typedef enum {
    ENGINE_FAULT_NONE,
    ENGINE_FAULT_LOST_COPY,    // once, a page is not copied
    ENGINE_FAULT_WRONG_TEXT,   // from then on, the cached page that was used last is written over
    ENGINE_FAULT_SHARED_SALTS, // salts are taken for equal
    ENGINE_FAULT_LOST_PAGE,    // once, a page is given back to nobody
    ENGINE_FAULT_OVERTAKING,   // once, two sequences swap their places in the order
    ENGINE_FAULT_STARVATION,   // from then on, one sequence is left out of every step
    ENGINE_FAULT_NO_BUDGET,    // from then on, prompts have all the time they want
    ENGINE_FAULT_EARLY_PASS,   // from then on, windows are given back too early
    ENGINE_FAULT_LOST_SAVE,    // from then on, checkpoints are not written
    ENGINE_FAULT_WRONG_STATE,  // from then on, they are written over
    ENGINE_FAULT_COUNT,
} EngineFault;

typedef struct {
    uint64_t seed;
    uint32_t jobs; // in all
    uint32_t n_slots, n_pages, max_rows;
    uint32_t depth;                     // of the pipeline
    uint32_t slices;                    // of a chunk, at most
    uint32_t n_full, n_windows, window; // lists of pages; all 0: one, without a window
    uint32_t n_checkpoints;             // 0: the model has no states
    EngineFault fault;
} EngineSimConfig;

typedef struct {
    char problem[160]; // empty: none
    uint64_t steps;
    uint64_t rows_written;
    uint64_t tokens_cached; // of prompts
    uint64_t tokens_prompts;
    uint32_t ended, cancelled, set_aside, copies;
    uint64_t saved, restored;     // checkpoints
    uint64_t saved_within;        // of those saved: not behind the last row of a step's part
    uint64_t passed;              // sequences that went on behind a window, in steps
    uint32_t beside, beside_long; // steps with prompts' rows beside draws, and those over their budget
} EngineSimReport;

// False when something was wrong: report->problem says what, at which step.
bool engine_sim_run(const EngineSimConfig *config, EngineSimReport *report);
