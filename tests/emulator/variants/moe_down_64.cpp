#include "emulator/variant.h"
#define VARIANT moe_down_64
#define STAGE_EXPERTS_DOWN 1
#define EXPERTS_MANY 1
#define D_MODEL 288
#define N_EXPERTS 5
#define N_USED 2
#define D_FF 96
#define FORMAT_0 FORMAT_MXFP4
#define MAX_ROWS 192
#define EXPERT_SLOTS 192
#define EXPERT_TILES 13
#define TILE_ROWS 16
#define BLOCKS 3
#define WARPS 8
#define RING_BYTES 98304
#include "emulator/run_experts.h"
