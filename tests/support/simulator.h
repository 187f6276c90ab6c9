// The worker in one thread, without sockets and without a clock: thousands of invented clients on one side, a
// scripted executor on the other, and between them the real HTTP connections, interface, scheduler and
// engine.
//
// Clients connect, stall, cut what they send at any byte, cancel each other's jobs, stop reading, hang up,
// vanish and come back. The executor answers each prompt with the prompt's own tokens, so that every stream
// can be checked against its request. Everything follows from the seed: the same seed is the same run.
//
// Checked after each step: no more jobs than slots; free jobs hold no memory; an idle engine holds no slot
// and no page; what engine_invariants.h says; the tables have not grown. Checked of each answer: its status
// suits the request; a stream begins with the job's own `started`, its text is the job's own, and exactly one
// terminal event ends it; a client that behaved gets its answer whole. Checked at the end: everything was
// given back.
#pragma once

#include "base/base.h"

// What is broken on purpose, to see that the checks see it.
typedef enum {
    SIM_FAULT_NONE,
    SIM_FAULT_SWAPPED_TOKENS, // once, two jobs get each other's token
    SIM_FAULT_LOST_END,       // once, a terminal event is lost
    SIM_FAULT_LOST_SLOT,      // once, a job's slot in the engine is not released
    SIM_FAULT_FREED_PAGE,     // once, a page counts as free that a job holds
} SimFault;

typedef struct {
    uint64_t seed;
    uint32_t jobs; // requests for jobs that clients make in all
    SimFault fault;
} SimConfig;

typedef struct {
    char problem[256]; // empty: none
    uint64_t steps;
    uint64_t virtual_ms;
    uint64_t requests;
    uint32_t ends, errors, busy, refused, lost; // streams by their last event, answers 503, others, none
    uint32_t connections_most, jobs_most;
    uint64_t digest; // of all of it, in order
} SimReport;

// False when something was wrong: report->problem says what, at which step.
bool sim_run(const SimConfig *config, SimReport *report);
