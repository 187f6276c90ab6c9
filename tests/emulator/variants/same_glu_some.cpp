#include "emulator/variant.h"
#define VARIANT same_glu_some
// A norm of several spans of columns: the same bits whatever the blocks, warps and ring.
#define STAGE_GLU 1
#define D_MODEL 1536
#define NORM_EPS 1e-5f
#define D_FF 40
#define ACTIVATION ACTIVATION_SILU
#define FORMAT_0 FORMAT_Q6_K
#define BLOCKS 3
#define WARPS 4
#define RING_BYTES 65536
#include "emulator/run.h"
