#include "emulator/variant.h"
#define VARIANT batch_group_wide
// Several turns of 32 choices a warp.
#define STAGE_GROUP_EXPERTS 1
#define D_MODEL 64
#define N_EXPERTS 6
#define N_USED 4
#define MAX_ROWS 1024
#define GROUP_BLOCKS 2
#define EXPERT_SLOTS 4144
#define TILE_ROWS 128
#define EXPERT_TILES 38
#include "emulator/run_experts.h"
