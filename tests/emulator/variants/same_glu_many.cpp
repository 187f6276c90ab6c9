#include "emulator/variant.h"
#define VARIANT same_glu_many
// A norm of several spans of columns: the same bits whatever the blocks, warps and ring.
#define STAGE_GLU 1
#define D_MODEL 1536
#define NORM_EPS 1e-5f
#define D_FF 40
#define ACTIVATION ACTIVATION_SILU
#define FORMAT_0 FORMAT_Q6_K
#define BLOCKS 7
#define WARPS 16
#define RING_BYTES 131072
#include "emulator/run.h"
