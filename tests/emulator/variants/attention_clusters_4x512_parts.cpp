#include "emulator/variant.h"
#define VARIANT attention_clusters_4x512_parts
// One tile in the ring, with a quarter of its values.
#define STAGE_BATCH_ATTENTION 1
#define TWO_WAYS 1
#define VALUE_PARTS 4
#define CLUSTERS 4
#define N_HEADS 4
#define N_KV_HEADS 1
#define HEAD_DIM 512
#define ROPE_DIMS 0
#define ROPE_HALVES 0
#define SCORE_SCALE 0.0625f
#define WINDOW 0
#define MAX_ROWS 1
#define BLOCKS 16
#define BLOCKS_PER_SM 1
#define TEAMS 1
#define TEAM_WARPS 4
#define RING_BYTES 81920
#define GROUPS_MAX 3
#include "emulator/run_attention.h"
