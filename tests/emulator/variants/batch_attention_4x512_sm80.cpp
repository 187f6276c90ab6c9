#define SM_ARCH 80
#include "emulator/variant.h"
#define VARIANT batch_attention_4x512
// Keys and values take turns in shared memory.
#define STAGE_BATCH_ATTENTION 1
#define N_HEADS 4
#define N_KV_HEADS 1
#define HEAD_DIM 512
#define ROPE_DIMS 0
#define ROPE_HALVES 0
#define SCORE_SCALE 0.0625f
#define WINDOW 0
#define MAX_ROWS 4
#define BLOCKS 5
#define BLOCKS_PER_SM 1
#define TEAMS 1
#define TEAM_WARPS 4
#define RING_BYTES 65536
#define GROUPS_MAX 3
#include "emulator/run_attention.h"
