#include "emulator/variant.h"
#define VARIANT qkv_ring
// K formats, pairs side by side, half of each head turned; a ring that is refilled, rows in slices.
#define STAGE_QKV 1
#define D_MODEL 2304
#define N_HEADS 3
#define N_KV_HEADS 1
#define HEAD_DIM 64
#define ROPE_DIMS 32
#define ROPE_HALVES 0
#define ROPE_SCALE 1.25f
#define NORM_EPS 1e-5f
#define SCORE_SCALE 0.125f
#define FORMAT_0 FORMAT_Q4_K
#define FORMAT_1 FORMAT_Q4_K
#define FORMAT_2 FORMAT_Q6_K
#define BLOCKS 3
#define WARPS 4
#define RING_BYTES 24000
#include "emulator/run.h"
