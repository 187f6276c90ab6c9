#include "emulator/variant.h"
#define VARIANT qkv_gpt2
// Layer norm, learned positions, no turns.
#define STAGE_QKV 1
#define FIRST 1
#define LEARNED_POSITIONS 1
#define LAYER_NORM 1
#define D_MODEL 192
#define N_HEADS 3
#define N_KV_HEADS 3
#define HEAD_DIM 64
#define ROPE_DIMS 0
#define ROPE_HALVES 0
#define ROPE_SCALE 1.0f
#define NORM_EPS 1e-5f
#define SCORE_SCALE 0.125f
#define FORMAT_0 FORMAT_Q8_0
#define FORMAT_1 FORMAT_Q8_0
#define FORMAT_2 FORMAT_Q8_0
#define EMBED_FORMAT FORMAT_Q8_0
#define EMBED_SCALE 1.0f
#define BLOCKS 3
#define WARPS 8
#define RING_BYTES 65536
#include "emulator/run.h"
