#include "emulator/variant.h"
#define VARIANT qkv_mixed
// A float matrix beside quantised ones.
#define STAGE_QKV 1
#define D_MODEL 512
#define N_HEADS 2
#define N_KV_HEADS 1
#define HEAD_DIM 64
#define ROPE_DIMS 64
#define ROPE_HALVES 1
#define ROPE_SCALE 1.0f
#define NORM_EPS 1e-5f
#define SCORE_SCALE 0.125f
#define FORMAT_0 FORMAT_Q4_1
#define FORMAT_1 FORMAT_Q5_K
#define FORMAT_2 FORMAT_F16
#define BLOCKS 2
#define WARPS 3
#define RING_BYTES 16000
#include "emulator/run.h"
