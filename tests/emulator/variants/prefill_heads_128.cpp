#include "emulator/variant.h"
#define VARIANT prefill_heads_128
// Neighbouring pairs of a part of each head.
#define STAGE_HEADS 1
#define N_HEADS 2
#define N_KV_HEADS 2
#define HEAD_DIM 128
#define ROPE_DIMS 96
#define ROPE_HALVES 0
#define ROPE_SCALE 1.0f
#define NORM_EPS 1e-6f
#define SCORE_SCALE 0.125f
#define MAX_ROWS 64
#include "emulator/run.h"
