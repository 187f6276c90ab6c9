#include "emulator/variant.h"
#define VARIANT heads_256
// Neighbouring pairs, all of each head.
#define STAGE_HEADS 1
#define N_HEADS 3
#define N_KV_HEADS 1
#define HEAD_DIM 256
#define ROPE_DIMS 256
#define ROPE_HALVES 0
#define ROPE_SCALE 1.0f
#define NORM_EPS 1e-6f
#define SCORE_SCALE 0.0625f
#include "emulator/run.h"
