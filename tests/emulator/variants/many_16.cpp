#include "emulator/variant.h"
#define VARIANT many_16
// Five segments of two chunks, the last of one; bands that are not full.
#define STAGE_OUTPUT 1
#define N_ROWS 150
#define N_COLS 2304
#define FORMAT_0 FORMAT_Q4_K
#define FROM_GLU 1
#define MAX_ROWS 16
#define TILE_ROWS 16
#define WARPS 4
#define RING_BYTES 49152
#define BLOCKS 2
#include "emulator/run_many.h"
