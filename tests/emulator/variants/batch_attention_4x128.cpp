#include "emulator/variant.h"
#define VARIANT batch_attention_4x128
// Four heads share keys.
#define STAGE_BATCH_ATTENTION 1
#define N_HEADS 8
#define N_KV_HEADS 2
#define HEAD_DIM 128
#define ROPE_DIMS 96
#define ROPE_HALVES 1
#define SCORE_SCALE 0.0884f
#define HEAD_NORMS 1
#define NORM_EPS 1e-6f
#define WINDOW 0
#define MAX_ROWS 12
#define BLOCKS 7
#define BLOCKS_PER_SM 1
#define TEAMS 3
#define TEAM_WARPS 1
#define RING_BYTES 32768
#define GROUPS_MAX 3
#include "emulator/run_attention.h"
