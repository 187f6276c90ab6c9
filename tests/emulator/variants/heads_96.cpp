#include "emulator/variant.h"
#define VARIANT heads_96
// Halves, a part of each head is turned.
#define STAGE_HEADS 1
#define N_HEADS 6
#define N_KV_HEADS 2
#define HEAD_DIM 96
#define ROPE_DIMS 64
#define ROPE_HALVES 1
#define ROPE_SCALE 1.1f
#define NORM_EPS 1e-6f
#define SCORE_SCALE 0.0625f
#include "emulator/run.h"
