#include "emulator/variant.h"
#ifndef VARIANT
#define VARIANT mla_spans_20_sheets
#endif
// Three sheets of dims: a slot of a ring has them all.
#ifndef MLA_STRETCHES
#define MLA_STRETCHES 10
#endif
#define N_HEADS 20
#define HEAD_DIM 192
#define D_MODEL 128
#define MAX_ROWS 48
#ifndef TILE_TOKENS
#define TILE_TOKENS 32
#endif
#ifndef BLOCKS
#define BLOCKS 3
#endif
#include "emulator/run_mla.h"
