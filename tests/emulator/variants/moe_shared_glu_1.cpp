#include "emulator/variant.h"
#define VARIANT moe_shared_glu_1
// moe_glu_1 with a shared expert of as many rows: passes that have units of both kinds.
#define STAGE_EXPERTS_GLU 1
#define SHARED_ROWS 96
#define ACTIVATION ACTIVATION_SWIGLU_CLAMPED
#define D_MODEL 288
#define N_EXPERTS 5
#define N_USED 2
#define D_FF 96
#define FORMAT_0 FORMAT_MXFP4
#define MAX_ROWS 1
#define BLOCKS 5
#define WARPS 4
#define RING_BYTES 16384
#define FETCHERS 2
#include "emulator/run_experts.h"
