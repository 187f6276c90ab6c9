#include "emulator/variant.h"
#define VARIANT prefill_qkv_halves
// Three formats, the key and value parts less than a tile; RoPE pairs far apart.
#define STAGE_PREFILL_QKV 1
#define D_MODEL 256
#define N_HEADS 3
#define N_KV_HEADS 1
#define HEAD_DIM 32
#define ROPE_DIMS 32
#define ROPE_HALVES 1
#define SCORE_SCALE 0.17677669f
#define FORMAT_0 FORMAT_Q4_K
#define FORMAT_1 FORMAT_Q5_0
#define FORMAT_2 FORMAT_Q6_K
#define MAX_ROWS 128
#define TILE_TOKENS 64
#define WARPS 4
#define RING_BYTES 32768
#include "emulator/run.h"
