#include "emulator/variant.h"
#ifndef VARIANT
#define VARIANT span_attention_8x512
#define STAGE_SPAN_ATTENTION 1
#endif
// Gemma 4 26B-A4B's wide heads: 10 rows of 8 heads a cluster.
#define N_HEADS 16
#define N_KV_HEADS 2
#define HEAD_DIM 512
#define WINDOW 0
#define MAX_ROWS 130
#define SPAN_WARPS 2
#include "emulator/run_attention.h"
