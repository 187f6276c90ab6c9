#include "emulator/variant.h"
#define VARIANT moe_k_down_8
#define STAGE_EXPERTS_DOWN 1
#define FORMAT_0 FORMAT_IQ3_S
#define D_MODEL 512
#define D_FF 256
#define N_EXPERTS 34
#define N_USED 3
#define MAX_ROWS 8
#define BLOCKS 7
#define WARPS 8
#define RING_BYTES 65536
#define FETCHERS 3
#include "emulator/run_experts.h"
