#include "emulator/variant.h"
#define VARIANT rope_heads_pairs
// Neighbours are turned together.
#define STAGE_ROPE_HEADS 1
#define N_HEADS 4
#define N_KV_HEADS 4
#define HEAD_DIM 80
#define ROPE_DIMS 80
#define ROPE_HALVES 0
#define SCORE_SCALE 0.0884f
#define MAX_ROWS 1
#include "emulator/run_attention.h"
