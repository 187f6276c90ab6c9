#include "emulator/variant.h"
#define VARIANT glu_ungated
// GPT-2's: layer norm, biases, no gate.
#define STAGE_GLU 1
#define UNGATED 1
#define HAS_BIAS 1
#define LAYER_NORM 1
#define D_MODEL 1056
#define D_FF 133
#define NORM_EPS 1e-5f
#define ACTIVATION ACTIVATION_GELU_TANH
#define FORMAT_0 FORMAT_Q8_0
#define BLOCKS 3
#define WARPS 4
#define RING_BYTES 32768
#include "emulator/run.h"
