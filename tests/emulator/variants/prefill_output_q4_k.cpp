#include "emulator/variant.h"
#define VARIANT prefill_output_q4_k
// Q4_K; rows of 1280 columns.
#define STAGE_PREFILL_OUTPUT 1
#define N_ROWS 72
#define N_COLS 1280
#define FORMAT_0 FORMAT_Q4_K
#define MAX_ROWS 128
#define TILE_TOKENS 64
#define WARPS 4
#define RING_BYTES 49152
#include "emulator/run.h"
