#include "emulator/variant.h"
#define VARIANT qkv_codes
// Values of tables and three bits, unpacked before the input comes; x from a two-bit embedding.
#define STAGE_QKV 1
#define D_MODEL 512
#define N_HEADS 7
#define N_KV_HEADS 1
#define HEAD_DIM 32
#define ROPE_DIMS 32
#define ROPE_HALVES 1
#define ROPE_SCALE 1.0f
#define NORM_EPS 1e-6f
#define SCORE_SCALE 0.17677669f
#define FORMAT_0 FORMAT_IQ4_XS
#define FORMAT_1 FORMAT_Q3_K
#define FORMAT_2 FORMAT_IQ4_NL
#define FIRST 1
#define EMBED_FORMAT FORMAT_Q2_K
#define EMBED_SCALE 1.5f
#define BLOCKS 5
#define WARPS 4
#define RING_BYTES 32768
#include "emulator/run.h"
