#include "emulator/variant.h"
#ifndef VARIANT
#define VARIANT batch_attention_7x64_q8
#endif
// A cache of 8 bits.
#define KV_Q8 1
#define STAGE_BATCH_ATTENTION 1
#define N_HEADS 14
#define N_KV_HEADS 2
#define HEAD_DIM 64
#define ROPE_DIMS 0
#define ROPE_HALVES 0
#define SCORE_SCALE 0.125f
#define WINDOW 0
#define MAX_ROWS 12
#define BLOCKS 7
#define BLOCKS_PER_SM 1
#define TEAMS 1
#define TEAM_WARPS 4
#ifndef RING_BYTES
#define RING_BYTES 33792
#endif
#define GROUPS_MAX 3
#include "emulator/run_attention.h"
