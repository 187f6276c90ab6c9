#define SM_ARCH 75
#include "emulator/variant.h"
#define VARIANT many_128_older
// Tiles of 64 rows for older GPUs.
#define STAGE_OUTPUT 1
#define N_ROWS 150
#define N_COLS 2304
#define FORMAT_0 FORMAT_Q4_K
#define FROM_GLU 1
#define MAX_ROWS 128
#define TILE_ROWS 64
#define WARPS 4
#define RING_BYTES 49152
#define BLOCKS 2
#include "emulator/run_many.h"
