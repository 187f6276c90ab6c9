// What always holds of an engine between two of its steps.
#pragma once

#include "engine/engine.h"

// The first thing that does not hold, or NULL: its pages are as kv_checks.h says, held by the sequences that
// run; who waits came after all that run, so nobody overtakes; sequences that do not run hold no pages.
const char *engine_problem(const Engine *e);
