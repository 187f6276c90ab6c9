#include "emulator/variant.h"
#define VARIANT prefill_heads_80
// More pairs than lanes, fewer than twice as many.
#define STAGE_HEADS 1
#define N_HEADS 5
#define N_KV_HEADS 1
#define HEAD_DIM 80
#define ROPE_DIMS 80
#define ROPE_HALVES 1
#define ROPE_SCALE 1.0f
#define NORM_EPS 1e-6f
#define SCORE_SCALE 0.125f
#define MAX_ROWS 64
#include "emulator/run.h"
