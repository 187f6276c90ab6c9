#include "emulator/variant.h"
#define VARIANT moe_down_32
// Tiles of eight slots.
#define STAGE_EXPERTS_DOWN 1
#define EXPERTS_MANY 1
#define D_MODEL 288
#define N_EXPERTS 5
#define N_USED 2
#define D_FF 96
#define FORMAT_0 FORMAT_MXFP4
#define MAX_ROWS 8
#define EXPERT_SLOTS 168
#define EXPERT_TILES 21
#define TILE_ROWS 8
#define BLOCKS 5
#define WARPS 6
#define RING_BYTES 16384
#include "emulator/run_experts.h"
