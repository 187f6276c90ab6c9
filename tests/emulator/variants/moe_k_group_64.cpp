#include "emulator/variant.h"
#define VARIANT moe_k_group_64
#define STAGE_GROUP_EXPERTS 1
#define D_MODEL 512
#define N_EXPERTS 34
#define N_USED 3
#define MAX_ROWS 64
#define GROUP_BLOCKS 2
#define EXPERT_SLOTS 448
#define TILE_ROWS 32
#define EXPERT_TILES 40
#include "emulator/run_experts.h"
