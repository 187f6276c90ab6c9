#include "emulator/variant.h"
#define VARIANT prefill_glu_ungated
// GPT-2's: biases, no gate; half a unit at the end.
#define STAGE_PREFILL_GLU 1
#define UNGATED 1
#define HAS_BIAS 1
#define D_MODEL 160
#define D_FF 168
#define ACTIVATION ACTIVATION_GELU_TANH
#define FORMAT_0 FORMAT_Q8_0
#define MAX_ROWS 128
#define TILE_TOKENS 64
#define WARPS 4
#define RING_BYTES 32768
#include "emulator/run.h"
