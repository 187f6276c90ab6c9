#include "emulator/variant.h"
#ifndef VARIANT
#define VARIANT mla_rows_20_chunks
#endif
// Heads in chunks; room for less than two tiles.
#define SHARED_BYTES_MAX 40000
#define GROUPS_MAX 4
#define N_HEADS 20
#define HEAD_DIM 160
#define D_MODEL 128
#define MAX_ROWS 8
#define TILE_TOKENS 16
#define BLOCKS 7
#include "emulator/run_mla.h"
