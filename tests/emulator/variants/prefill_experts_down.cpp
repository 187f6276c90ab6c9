#include "emulator/variant.h"
#define VARIANT prefill_experts_down
// Rows past the last of a unit.
#define STAGE_PREFILL_EXPERTS_DOWN 1
#define N_ROWS 160
#define N_COLS 96
#define FORMAT_0 FORMAT_Q8_0
#define EXPERT_TILES 16
#define MAX_ROWS 512
#define TILE_TOKENS 64
#define WARPS 4
#define RING_BYTES 32768
#include "emulator/run.h"
