#include "emulator/variant.h"
#define VARIANT qkv_raw
// For heads with norms of their own: rows as the matrices give them.
#define STAGE_QKV 1
#define RAW 1
#define D_MODEL 160
#define N_HEADS 3
#define N_KV_HEADS 1
#define HEAD_DIM 80
#define ROPE_DIMS 0
#define ROPE_HALVES 0
#define ROPE_SCALE 1.0f
#define NORM_EPS 1e-6f
#define SCORE_SCALE 1.0f
#define FORMAT_0 FORMAT_Q8_0
#define FORMAT_1 FORMAT_Q4_0
#define FORMAT_2 FORMAT_Q8_0
#define BLOCKS 4
#define WARPS 4
#define RING_BYTES 8192
#include "emulator/run.h"
