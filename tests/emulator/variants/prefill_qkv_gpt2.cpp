#include "emulator/variant.h"
#define VARIANT prefill_qkv_gpt2
// No turns.
#define STAGE_PREFILL_QKV 1
#define D_MODEL 192
#define N_HEADS 3
#define N_KV_HEADS 3
#define HEAD_DIM 64
#define ROPE_DIMS 0
#define ROPE_HALVES 0
#define SCORE_SCALE 0.125f
#define FORMAT_0 FORMAT_Q8_0
#define FORMAT_1 FORMAT_Q8_0
#define FORMAT_2 FORMAT_Q8_0
#define MAX_ROWS 128
#define TILE_TOKENS 64
#define WARPS 4
#define RING_BYTES 32768
#include "emulator/run.h"
