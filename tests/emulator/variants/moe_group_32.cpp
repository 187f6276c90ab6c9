#include "emulator/variant.h"
#define VARIANT moe_group_32
#define STAGE_GROUP_EXPERTS 1
#define D_MODEL 288
#define N_EXPERTS 5
#define N_USED 2
#define MAX_ROWS 64
#define GROUP_BLOCKS 3
#define EXPERT_SLOTS 168
#define TILE_ROWS 8
#define EXPERT_TILES 21
#include "emulator/run_experts.h"
