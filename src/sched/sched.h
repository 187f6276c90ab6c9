// The scheduler: jobs from the bridge become sequences of the engine, and the engine's tokens become text and
// events on the bridge.
//
// It runs on the engine thread and is the only one to call the engine there. Between any two engine steps it
// looks at each job's cancel flag and deadline, so a job ends at most one step after it should. Text is made
// here: whole characters, stop strings held back and taken out.
//
// Each submitted job gets exactly one terminal event, whatever happens: also when the engine is lost and when
// the scheduler is told to stop.
#pragma once

#include "jobs/bridge.h"
#include "engine/engine.h"
#include "text/tokenizer.h"

enum { METRICS_INTERVAL_MS = 500, RESIDENCY_INTERVAL_MS = 60 * 1000 };

typedef struct Sched Sched;

// `arena` keeps the tables. The engine has as many slots as the bridge has jobs.
MUST_CHECK bool sched_create(Bridge *bridge, Engine *engine, const Tokenizer *tokenizer, Arena *arena,
                             Sched **out, Error *err);

// One turn, which never waits: new jobs in, overdue ones out, one step of the engine.
typedef enum {
    SCHED_TURN_WORKED,
    SCHED_TURN_IDLE,    // there was nothing to step
    SCHED_TURN_STOPPED, // as bridge_stop asked, and every job has been told
    SCHED_TURN_LOST,    // the backend is lost (*err), and every job has been told
} SchedTurn;
SchedTurn sched_turn(Sched *s, Error *err);

// Takes turns, sleeping while there are no jobs. Serves until bridge_stop, then true. False when the backend
// is lost: every job has been told then. The engine has ended in both cases (engine_end).
MUST_CHECK bool sched_run(Sched *s, Error *err);
