#include "emulator/variant.h"
#define VARIANT many_128
// Tiles of 128 rows, two of them, and two passes: of 65 to 128 rows narrow tiles, of fewer half passes, too.
#define STAGE_OUTPUT 1
#define N_ROWS 150
#define N_COLS 2304
#define FORMAT_0 FORMAT_Q4_K
#define FROM_GLU 1
#define MAX_ROWS 256
#define TILE_ROWS 128
#define WARPS 8
#define RING_BYTES 122880
#define BLOCKS 4
#include "emulator/run_many.h"
