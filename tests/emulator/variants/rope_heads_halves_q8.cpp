#include "emulator/variant.h"
#define VARIANT rope_heads_halves_q8
// A cache of 8 bits.
#define KV_Q8 1
#define STAGE_ROPE_HEADS 1
#define N_HEADS 8
#define N_KV_HEADS 2
#define HEAD_DIM 128
#define ROPE_DIMS 96
#define ROPE_HALVES 1
#define SCORE_SCALE 0.0884f
#define HEAD_NORMS 1
#define NORM_EPS 1e-6f
#define MAX_ROWS 9
#include "emulator/run_attention.h"
