#include "emulator/variant.h"
#define VARIANT moe_mixed_glu_8
// Gate and up in two formats.
#define STAGE_EXPERTS_GLU 1
#define ACTIVATION ACTIVATION_SILU
#define FORMAT_0 FORMAT_Q8_0
#define FORMAT_1 FORMAT_F16
#define D_MODEL 160
#define D_FF 64
#define N_EXPERTS 6
#define N_USED 2
#define MAX_ROWS 8
#define BLOCKS 3
#define WARPS 4
#define RING_BYTES 49152
#include "emulator/run_experts.h"
