#include "emulator/variant.h"
#define VARIANT attention_clusters_4x128_q8
// A cache of 8 bits.
#define KV_Q8 1
#define STAGE_BATCH_ATTENTION 1
#define TWO_WAYS 1
#define CLUSTERS 2
#define N_HEADS 8
#define N_KV_HEADS 2
#define HEAD_DIM 128
#define ROPE_DIMS 96
#define ROPE_HALVES 1
#define SCORE_SCALE 0.0884f
#define HEAD_NORMS 1
#define NORM_EPS 1e-6f
#define WINDOW 0
#define MAX_ROWS 1
#define BLOCKS 32
#define BLOCKS_PER_SM 1
#define TEAMS 1
#define TEAM_WARPS 4
#define RING_BYTES 101376
#define GROUPS_MAX 3
#include "emulator/run_attention.h"
