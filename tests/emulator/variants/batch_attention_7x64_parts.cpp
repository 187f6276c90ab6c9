#include "emulator/variant.h"
#define VARIANT batch_attention_7x64_parts
// One row on four blocks, which take whole groups of its two lists.
#define STAGE_BATCH_ATTENTION 1
#define N_HEADS 14
#define N_KV_HEADS 2
#define HEAD_DIM 64
#define ROPE_DIMS 0
#define ROPE_HALVES 0
#define SCORE_SCALE 0.125f
#define WINDOW 0
#define MAX_ROWS 1
#define BLOCKS 4
#define BLOCKS_PER_SM 1
#define TEAMS 1
#define TEAM_WARPS 4
#define RING_BYTES 16384
#define GROUPS_MAX 3
#include "emulator/run_attention.h"
