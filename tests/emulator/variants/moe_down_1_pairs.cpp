#include "emulator/variant.h"
#define VARIANT moe_down_1_pairs
// moe_down_1 in pairs of blocks: each of a pair has one of the two experts.
#define STAGE_EXPERTS_DOWN 1
#define D_MODEL 288
#define N_EXPERTS 5
#define N_USED 2
#define D_FF 96
#define FORMAT_0 FORMAT_MXFP4
#define MAX_ROWS 1
#define PAIRS 1
#define BLOCKS 14
#define WARPS 3
#define RING_BYTES 8192
#include "emulator/run_experts.h"
