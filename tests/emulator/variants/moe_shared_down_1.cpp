#include "emulator/variant.h"
#define VARIANT moe_shared_down_1
// moe_down_1 with a shared expert, which counts as much as the router says.
#define STAGE_EXPERTS_DOWN 1
#define SHARED_ROWS 288
#define HAS_SHARE 1
#define D_MODEL 288
#define N_EXPERTS 5
#define N_USED 2
#define D_FF 96
#define FORMAT_0 FORMAT_MXFP4
#define MAX_ROWS 1
#define BLOCKS 5
#define WARPS 3
#define RING_BYTES 8192
#include "emulator/run_experts.h"
