#include "emulator/variant.h"
#define VARIANT batch_group_small
// More blocks than some batches have rows.
#define STAGE_GROUP_EXPERTS 1
#define D_MODEL 160
#define N_EXPERTS 37
#define N_USED 3
#define MAX_ROWS 64
#define GROUP_BLOCKS 3
#define EXPERT_SLOTS 456
#define TILE_ROWS 16
#define EXPERT_TILES 49
#include "emulator/run_experts.h"
