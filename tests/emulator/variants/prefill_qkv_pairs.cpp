#include "emulator/variant.h"
#define VARIANT prefill_qkv_pairs
// RoPE pairs side by side, on part of a head.
#define STAGE_PREFILL_QKV 1
#define D_MODEL 288
#define N_HEADS 4
#define N_KV_HEADS 2
#define HEAD_DIM 48
#define ROPE_DIMS 32
#define ROPE_HALVES 0
#define SCORE_SCALE 0.14433757f
#define FORMAT_0 FORMAT_Q8_0
#define FORMAT_1 FORMAT_Q8_0
#define FORMAT_2 FORMAT_Q8_0
#define MAX_ROWS 128
#define TILE_TOKENS 128
#define WARPS 8
#define RING_BYTES 131072
#include "emulator/run.h"
