#include "emulator/variant.h"
#define VARIANT moe_down_8
// A block may have the units of three experts.
#define STAGE_EXPERTS_DOWN 1
#define D_MODEL 288
#define N_EXPERTS 5
#define N_USED 2
#define D_FF 96
#define FORMAT_0 FORMAT_MXFP4
#define MAX_ROWS 8
#define BLOCKS 3
#define WARPS 5
#define RING_BYTES 16384
#include "emulator/run_experts.h"
