#include "emulator/variant.h"
#ifndef VARIANT
#define VARIANT mla_spans_20_sheets
#endif
// Entries of published sizes: nine sheets of 64 dims, three in a slot of a ring.
#ifndef MLA_STRETCHES
#define MLA_STRETCHES 10
#endif
#define N_HEADS 20
#define HEAD_DIM 576
#define D_MODEL 512
#define MAX_ROWS 48
#ifndef TILE_TOKENS
#define TILE_TOKENS 32
#endif
#ifndef BLOCKS
#define BLOCKS 3
#endif
#include "emulator/run_mla.h"
