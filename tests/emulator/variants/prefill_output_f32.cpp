#include "emulator/variant.h"
#define VARIANT prefill_output_f32
// F32; rows of 96 columns.
#define STAGE_PREFILL_OUTPUT 1
#define N_ROWS 72
#define N_COLS 96
#define FORMAT_0 FORMAT_F32
#define MAX_ROWS 128
#define TILE_TOKENS 64
#define WARPS 4
#define RING_BYTES 49152
#include "emulator/run.h"
