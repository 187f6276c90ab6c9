#include "emulator/variant.h"
#define VARIANT prefill_output_q5_k
// Q5_K; rows of 256 columns.
#define STAGE_PREFILL_OUTPUT 1
#define N_ROWS 72
#define N_COLS 256
#define FORMAT_0 FORMAT_Q5_K
#define MAX_ROWS 128
#define TILE_TOKENS 64
#define WARPS 4
#define RING_BYTES 49152
#include "emulator/run.h"
