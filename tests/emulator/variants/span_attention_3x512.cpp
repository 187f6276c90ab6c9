#include "emulator/variant.h"
#ifndef VARIANT
#define VARIANT span_attention_3x512
#define STAGE_SPAN_ATTENTION 1
#endif
// Wide heads whose scores have a cap; 3 of them share keys, which divide no block's queries.
#define N_HEADS 6
#define N_KV_HEADS 2
#define HEAD_DIM 512
#define WINDOW 0
#define SOFT_CAP 2.0f
#define MAX_ROWS 130
#define SPAN_WARPS 2
#include "emulator/run_attention.h"
