// How many bytes a state of a matcher is from its end, estimated from the frames of its readings: what a
// search for the shortest completion follows first.
#pragma once

#include "grammar/grammar_matcher_internal.h"

typedef struct GrammarDistance GrammarDistance;

// Lives in the arena; the grammar is small.
GrammarDistance *grammar_distance_new(const GrammarMatcher *m, Arena *arena);
uint64_t grammar_distance(const GrammarDistance *d, GrammarState state);
