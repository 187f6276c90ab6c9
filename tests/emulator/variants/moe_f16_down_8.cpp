#include "emulator/variant.h"
#define VARIANT moe_f16_down_8
#define STAGE_EXPERTS_DOWN 1
#define FORMAT_0 FORMAT_F16
#define D_MODEL 160
#define D_FF 64
#define N_EXPERTS 6
#define N_USED 2
#define MAX_ROWS 8
#define BLOCKS 3
#define WARPS 4
#define RING_BYTES 49152
#include "emulator/run_experts.h"
