#include "emulator/variant.h"
#define VARIANT many_32
// Columns split over clusters of two blocks and in each of them; two blocks a multiprocessor.
#define STAGE_OUTPUT 1
#define N_ROWS 150
#define N_COLS 2304
#define FORMAT_0 FORMAT_Q4_K
#define FROM_GLU 1
#define MAX_ROWS 32
#define TILE_ROWS 32
#define WARPS 8
#define K_WAYS_CLUSTER 2
#define K_WAYS_BLOCK 2
#define RING_BYTES 90112
#define BLOCKS 1
#define PASSES 3
#define BLOCKS_PER_SM 2
#include "emulator/run_many.h"
