#include "emulator/variant.h"
#ifndef VARIANT
#define VARIANT mla_spans_20
#endif
// Queries of two rows at a time; room for less than two tiles.
#define SHARED_BYTES_MAX 46000
#define MLA_STRETCHES 8
#define N_HEADS 20
#define HEAD_DIM 160
#define D_MODEL 128
#define MAX_ROWS 48
#define TILE_TOKENS 32
#define BLOCKS 3
#include "emulator/run_mla.h"
