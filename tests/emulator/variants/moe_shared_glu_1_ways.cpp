#include "emulator/variant.h"
#define VARIANT moe_shared_glu_1_ways
// A shared expert of more rows: blocks with a unit of each kind, and segments side by side; a ring.
#define STAGE_EXPERTS_GLU 1
#define SHARED_ROWS 176
#define ACTIVATION ACTIVATION_SWIGLU_CLAMPED
#define D_MODEL 288
#define N_EXPERTS 5
#define N_USED 2
#define D_FF 96
#define FORMAT_0 FORMAT_MXFP4
#define MAX_ROWS 1
#define BLOCKS 12
#define WARPS 8
#define K_WAYS 2
#define RING_BYTES 20480
#define FETCHERS 3
#include "emulator/run_experts.h"
