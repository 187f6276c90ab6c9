#include "emulator/variant.h"
#ifndef VARIANT
#define VARIANT attention_clusters_2x256_parts
#endif
// Two tiles in the ring, whose values are halves.
#define STAGE_BATCH_ATTENTION 1
#define TWO_WAYS 1
#define VALUE_PARTS 2
#define CLUSTERS 4
#define N_HEADS 2
#define N_KV_HEADS 1
#define HEAD_DIM 256
#define ROPE_DIMS 0
#define ROPE_HALVES 0
#define SCORE_SCALE 0.125f
#define WINDOW 0
#define MAX_ROWS 3
#define BLOCKS 16
#define BLOCKS_PER_SM 1
#define TEAMS 1
#define TEAM_WARPS 4
#define RING_BYTES 98304
#define GROUPS_MAX 3
#include "emulator/run_attention.h"
