#include "emulator/variant.h"
#define VARIANT shared_glu_1
// The shared expert of moe_shared_glu_1 as a stage of its own.
#define STAGE_GLU 1
#define ACTIVATION ACTIVATION_SWIGLU_CLAMPED
#define D_MODEL 288
#define D_FF 96
#define FORMAT_0 FORMAT_MXFP4
#define MAX_ROWS 1
#define BLOCKS 3
#define WARPS 4
#define RING_BYTES 16384
#include "emulator/run_few.h"
