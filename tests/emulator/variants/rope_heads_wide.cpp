#include "emulator/variant.h"
#define VARIANT rope_heads_wide
// Dims i and i + 64 are turned together, which a lane has both.
#define STAGE_ROPE_HEADS 1
#define N_HEADS 2
#define N_KV_HEADS 1
#define HEAD_DIM 256
#define ROPE_DIMS 128
#define ROPE_HALVES 1
#define SCORE_SCALE 0.0884f
#define HEAD_NORMS 1
#define NORM_EPS 1e-6f
#define MAX_ROWS 3
#include "emulator/run_attention.h"
