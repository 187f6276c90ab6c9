#include "emulator/variant.h"
#define VARIANT prefill_glu_bias
// A gate, with biases.
#define STAGE_PREFILL_GLU 1
#define HAS_BIAS 1
#define D_MODEL 160
#define D_FF 72
#define ACTIVATION ACTIVATION_SILU
#define FORMAT_0 FORMAT_Q8_0
#define MAX_ROWS 128
#define TILE_TOKENS 64
#define WARPS 4
#define RING_BYTES 32768
#include "emulator/run.h"
