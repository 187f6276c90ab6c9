#include "emulator/variant.h"
#ifndef VARIANT
#define VARIANT mla_spans_4_wide
#endif
// Five sheets of dims, of which two are a team's of values.
#define MLA_STRETCHES 10
#define N_HEADS 4
#define HEAD_DIM 320
#define D_MODEL 256
#define MAX_ROWS 48
#ifndef TILE_TOKENS
#define TILE_TOKENS 32
#endif
#define BLOCKS 2
#include "emulator/run_mla.h"
