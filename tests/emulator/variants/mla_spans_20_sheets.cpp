#include "emulator/variant.h"
#ifndef VARIANT
#define VARIANT mla_spans_20_sheets
#endif
// Three sheets of dims: a slot of a ring has them all.
#define MLA_STRETCHES 10
#define N_HEADS 20
#define HEAD_DIM 192
#define D_MODEL 128
#define MAX_ROWS 48
#ifndef TILE_TOKENS
#define TILE_TOKENS 32
#endif
#define BLOCKS 3
#include "emulator/run_mla.h"
