#include "emulator/variant.h"
#ifndef VARIANT
#define VARIANT mla_rows_4_wide
#endif
// Two blocks a split, each with half of the dims.
#define GROUPS_MAX 4
#define N_HEADS 4
#define HEAD_DIM 288
#define D_MODEL 256
#define MAX_ROWS 8
#define TILE_TOKENS 16
#define BLOCKS 140
#include "emulator/run_mla.h"
