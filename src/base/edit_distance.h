// How far two short names are apart.
#pragma once

#include "base/base.h"

// How many bytes one inserts, leaves out, replaces or swaps with their neighbours to make `b` of `a`, where
// no byte is changed twice (optimal string alignment, after Damerau 1964). SIZE_MAX where b has
// EDIT_DISTANCE_BYTES_MAX bytes or more.
enum { EDIT_DISTANCE_BYTES_MAX = 48 };
size_t edit_distance(Str a, Str b);
