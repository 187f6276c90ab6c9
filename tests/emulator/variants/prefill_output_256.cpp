#include "emulator/variant.h"
#define VARIANT prefill_output_256
// Tiles of 256 tokens; fewer rows than a tile has.
#define STAGE_PREFILL_OUTPUT 1
#define N_ROWS 72
#define N_COLS 416
#define FORMAT_0 FORMAT_Q5_0
#define MAX_ROWS 256
#define TILE_TOKENS 256
#define WARPS 8
#define RING_BYTES 196608
#include "emulator/run.h"
