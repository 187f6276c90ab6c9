// How far two short names are apart.
#pragma once

#include "base/base.h"

// The letters that one inserts, leaves out, replaces or swaps with their neighbours to make `b` of `a` (optimal
// string alignment: Damerau 1964, Wagner and Lowrance 1975, no letter changed twice). SIZE_MAX where b has
// EDIT_DISTANCE_BYTES_MAX bytes or more.
enum { EDIT_DISTANCE_BYTES_MAX = 48 };
size_t edit_distance(Str a, Str b);
