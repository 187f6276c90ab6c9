#define SM_ARCH 75
#include "emulator/variant.h"
#define VARIANT batch_attention_5x80_q8
// A cache of 8 bits, whose tokens are five units of 16 bytes.
#define KV_Q8 1
#define STAGE_BATCH_ATTENTION 1
#define N_HEADS 5
#define N_KV_HEADS 1
#define HEAD_DIM 80
#define ROPE_DIMS 0
#define ROPE_HALVES 0
#define SCORE_SCALE 0.125f
#define WINDOW 0
#define MAX_ROWS 12
#define BLOCKS 7
#define BLOCKS_PER_SM 1
#define TEAMS 2
#define TEAM_WARPS 1
#define RING_BYTES 10496
#define GROUPS_MAX 3
#include "emulator/run_attention.h"
