#include "emulator/variant.h"
#define VARIANT glu_ring
// A ring, rows whole.
#define STAGE_GLU 1
#define D_MODEL 512
#define D_FF 100
#define NORM_EPS 1e-6f
#define ACTIVATION ACTIVATION_GELU_TANH
#define FORMAT_0 FORMAT_Q4_K
#define BLOCKS 2
#define WARPS 4
#define RING_BYTES 8192
#include "emulator/run.h"
