#include "emulator/variant.h"
#define VARIANT many_64
// All bands in a pass, two groups of warps without any of the last ones.
#define STAGE_OUTPUT 1
#define N_ROWS 150
#define N_COLS 2304
#define FORMAT_0 FORMAT_Q4_K
#define FROM_GLU 1
#define MAX_ROWS 64
#define TILE_ROWS 64
#define WARPS 16
#define RING_BYTES 131072
#define BLOCKS 1
#include "emulator/run_many.h"
