#include "emulator/variant.h"
#define VARIANT attention_clusters_20x16
// More heads share keys than a product has rows; one block of a cluster folds.
#define STAGE_BATCH_ATTENTION 1
#define TWO_WAYS 1
#define CLUSTERS 8
#define N_HEADS 20
#define N_KV_HEADS 1
#define HEAD_DIM 16
#define ROPE_DIMS 0
#define ROPE_HALVES 0
#define SCORE_SCALE 0.125f
#define WINDOW 0
#define MAX_ROWS 8
#define BLOCKS 48
#define BLOCKS_PER_SM 1
#define TEAMS 1
#define TEAM_WARPS 4
#define RING_BYTES 4096
#define GROUPS_MAX 4
#include "emulator/run_attention.h"
