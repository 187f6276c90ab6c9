#include "emulator/variant.h"
#define VARIANT prefill_output_wide
// Eight warps, tiles of 128 tokens, from GLU.
#define STAGE_PREFILL_OUTPUT 1
#define FROM_GLU 1
#define N_ROWS 200
#define N_COLS 512
#define FORMAT_0 FORMAT_Q4_K
#define MAX_ROWS 128
#define TILE_TOKENS 128
#define WARPS 8
#define RING_BYTES 65536
#include "emulator/run.h"
