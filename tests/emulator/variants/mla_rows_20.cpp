#include "emulator/variant.h"
#ifndef VARIANT
#define VARIANT mla_rows_20
#endif
// Two sets of queries, one of them with four heads.
#define GROUPS_MAX 4
#define N_HEADS 20
#define HEAD_DIM 160
#define D_MODEL 128
#define MAX_ROWS 8
#define TILE_TOKENS 32
#define BLOCKS 5
#include "emulator/run_mla.h"
