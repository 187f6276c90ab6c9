#include "emulator/variant.h"
#define VARIANT prefill_output_bf16
// BF16; rows of 288 columns.
#define STAGE_PREFILL_OUTPUT 1
#define N_ROWS 72
#define N_COLS 288
#define FORMAT_0 FORMAT_BF16
#define MAX_ROWS 128
#define TILE_TOKENS 64
#define WARPS 4
#define RING_BYTES 49152
#include "emulator/run.h"
