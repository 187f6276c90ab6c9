#include "emulator/variant.h"
#define VARIANT moe_glu_8
// Segments side by side.
#define STAGE_EXPERTS_GLU 1
#define ACTIVATION ACTIVATION_SWIGLU_CLAMPED
#define HAS_BIAS 1
#define D_MODEL 288
#define N_EXPERTS 5
#define N_USED 2
#define D_FF 96
#define FORMAT_0 FORMAT_MXFP4
#define MAX_ROWS 8
#define BLOCKS 4
#define WARPS 8
#define K_WAYS 2
#define RING_BYTES 20480
#include "emulator/run_experts.h"
