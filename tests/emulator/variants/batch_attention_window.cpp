#include "emulator/variant.h"
#define VARIANT batch_attention_window
// A sliding window, sinks, and capped scores.
#define STAGE_BATCH_ATTENTION 1
#define N_HEADS 4
#define N_KV_HEADS 2
#define HEAD_DIM 64
#define ROPE_DIMS 0
#define ROPE_HALVES 0
#define SCORE_SCALE 0.125f
#define WINDOW 150
#define SOFT_CAP 1.5f
#define HAS_SINKS 1
#define MAX_ROWS 40
#define BLOCKS 5
#define BLOCKS_PER_SM 1
#define TEAMS 2
#define TEAM_WARPS 1
#define RING_BYTES 32768
#define GROUPS_MAX 2
#include "emulator/run_attention.h"
