#include "emulator/variant.h"
#define VARIANT glu_one_warp
// One warp, one block, the third activation.
#define STAGE_GLU 1
#define D_MODEL 64
#define D_FF 5
#define NORM_EPS 1e-6f
#define ACTIVATION ACTIVATION_GELU_ERF
#define FORMAT_0 FORMAT_Q4_0
#define BLOCKS 1
#define WARPS 1
#define RING_BYTES 4096
#include "emulator/run.h"
