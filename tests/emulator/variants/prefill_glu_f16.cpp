#include "emulator/variant.h"
#define VARIANT prefill_glu_f16
// GELU.
#define STAGE_PREFILL_GLU 1
#define D_MODEL 160
#define D_FF 40
#define ACTIVATION ACTIVATION_GELU_TANH
#define FORMAT_0 FORMAT_F16
#define MAX_ROWS 128
#define TILE_TOKENS 64
#define WARPS 4
#define RING_BYTES 32768
#include "emulator/run.h"
