#include "emulator/variant.h"
#define VARIANT prefill_glu_q4_k
// SiLU.
#define STAGE_PREFILL_GLU 1
#define D_MODEL 512
#define D_FF 200
#define ACTIVATION ACTIVATION_SILU
#define FORMAT_0 FORMAT_Q4_K
#define MAX_ROWS 128
#define TILE_TOKENS 64
#define WARPS 8
#define RING_BYTES 32768
#include "emulator/run.h"
