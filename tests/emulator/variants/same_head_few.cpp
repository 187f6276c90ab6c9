#include "emulator/variant.h"
#define VARIANT same_head_few
// A norm of several spans of columns: the same bits whatever the blocks, warps and ring.
#define STAGE_HEAD 1
#define D_MODEL 1536
#define NORM_EPS 1e-5f
#define LAYER_NORM 1
#define N_VOCAB 77
#define FORMAT_0 FORMAT_Q8_0
#define BLOCKS 2
#define WARPS 2
#define RING_BYTES 24576
#include "emulator/run.h"
