#include "emulator/variant.h"
#define VARIANT batch_attention_20x16_wide
// Many rows on few blocks.
#define STAGE_BATCH_ATTENTION 1
#define N_HEADS 20
#define N_KV_HEADS 1
#define HEAD_DIM 16
#define ROPE_DIMS 0
#define ROPE_HALVES 0
#define SCORE_SCALE 0.125f
#define WINDOW 0
#define MAX_ROWS 128
#define BLOCKS 3
#define BLOCKS_PER_SM 1
#define TEAMS 3
#define TEAM_WARPS 1
#define RING_BYTES 4096
#define GROUPS_MAX 3
#include "emulator/run_attention.h"
