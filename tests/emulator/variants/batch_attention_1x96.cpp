#include "emulator/variant.h"
#define VARIANT batch_attention_1x96
// Heads of sheets of 32 dims; none share keys.
#define STAGE_BATCH_ATTENTION 1
#define N_HEADS 3
#define N_KV_HEADS 3
#define HEAD_DIM 96
#define ROPE_DIMS 0
#define ROPE_HALVES 0
#define SCORE_SCALE 0.125f
#define WINDOW 0
#define MAX_ROWS 12
#define BLOCKS 7
#define BLOCKS_PER_SM 1
#define TEAMS 4
#define TEAM_WARPS 1
#define RING_BYTES 49152
#define GROUPS_MAX 3
#include "emulator/run_attention.h"
