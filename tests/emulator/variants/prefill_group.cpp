#include "emulator/variant.h"
#define VARIANT prefill_group
// Two warps, tiles of 64 slots.
#define STAGE_PREFILL_GROUP 1
#define N_EXPERTS 9
#define N_USED 3
#define GROUP_WARPS 2
#define TILE_TOKENS 64
#define EXPERT_TILES 16
#include "emulator/run.h"
