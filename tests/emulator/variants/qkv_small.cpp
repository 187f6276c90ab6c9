#include "emulator/variant.h"
#define VARIANT qkv_small
// Five-bit weights with biases, halves, all that a warp needs resident; x from an 8-bit embedding.
#define STAGE_QKV 1
#define D_MODEL 224
#define N_HEADS 7
#define N_KV_HEADS 1
#define HEAD_DIM 32
#define ROPE_DIMS 32
#define ROPE_HALVES 1
#define ROPE_SCALE 1.0f
#define NORM_EPS 1e-6f
#define SCORE_SCALE 0.17677669f
#define FORMAT_0 FORMAT_Q5_0
#define FORMAT_1 FORMAT_Q5_0
#define FORMAT_2 FORMAT_Q8_0
#define FIRST 1
#define EMBED_FORMAT FORMAT_Q8_0
#define EMBED_SCALE 1.5f
#define BLOCKS 5
#define WARPS 4
#define RING_BYTES 32768
#include "emulator/run.h"
