#include "emulator/variant.h"
#define VARIANT qkv_float
// Float weights of three kinds.
#define STAGE_QKV 1
#define D_MODEL 96
#define N_HEADS 2
#define N_KV_HEADS 2
#define HEAD_DIM 32
#define ROPE_DIMS 32
#define ROPE_HALVES 1
#define ROPE_SCALE 1.0f
#define NORM_EPS 1e-5f
#define SCORE_SCALE 0.17677669f
#define FORMAT_0 FORMAT_F16
#define FORMAT_1 FORMAT_BF16
#define FORMAT_2 FORMAT_F32
#define BLOCKS 3
#define WARPS 2
#define RING_BYTES 8192
#include "emulator/run.h"
