#define SM_ARCH 80
#include "emulator/variant.h"
#define VARIANT many_16_older
// many_16 with columns split in the block, for GPUs without clusters.
#define STAGE_OUTPUT 1
#define N_ROWS 150
#define N_COLS 2304
#define FORMAT_0 FORMAT_Q4_K
#define FROM_GLU 1
#define MAX_ROWS 16
#define TILE_ROWS 16
#define WARPS 8
#define K_WAYS_BLOCK 4
#define RING_BYTES 65536
#define BLOCKS 2
#include "emulator/run_many.h"
