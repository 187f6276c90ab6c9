#include "emulator/variant.h"
#define VARIANT moe_shared_down_1_pairs
// moe_shared_down_1 in pairs of blocks, which share the bands of the input in the middle: one or two of 2 or 3.
#define STAGE_EXPERTS_DOWN 1
#define SHARED_ROWS 288
#define HAS_SHARE 1
#define D_MODEL 288
#define N_EXPERTS 5
#define N_USED 2
#define D_FF 96
#define FORMAT_0 FORMAT_MXFP4
#define MAX_ROWS 1
#define PAIRS 1
#define BLOCKS 14
#define WARPS 5
#define RING_BYTES 12288
#include "emulator/run_experts.h"
