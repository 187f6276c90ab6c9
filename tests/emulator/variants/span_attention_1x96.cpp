#include "emulator/variant.h"
#ifndef VARIANT
#define VARIANT span_attention_1x96
#endif
// Heads of sheets of 32 dims; none share keys.
#define STAGE_SPAN_ATTENTION 1
#define N_HEADS 3
#define N_KV_HEADS 3
#define HEAD_DIM 96
#define WINDOW 0
#define MAX_ROWS 130
#define SPAN_WARPS 4
#include "emulator/run_attention.h"
