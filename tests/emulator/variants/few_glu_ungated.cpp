#include "emulator/variant.h"
#define VARIANT few_glu_ungated
// Layer norm, columns that end within 128; up alone.
#define STAGE_GLU 1
#define D_MODEL 160
#define D_FF 200
#define ACTIVATION ACTIVATION_GELU_TANH
#define UNGATED 1
#define HAS_BIAS 1
#define LAYER_NORM 1
#define NORM_INPUT 1
#define NORM_EPS 1e-5f
#define FORMAT_0 FORMAT_Q4_0
#define MAX_ROWS 8
#define BLOCKS 2
#define WARPS 2
#define RING_BYTES 65536
#include "emulator/run_few.h"
