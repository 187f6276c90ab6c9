#include "emulator/variant.h"
#define VARIANT span_attention_7x64_q8
// A cache of 8 bits.
#define KV_Q8 1
#define STAGE_SPAN_ATTENTION 1
#define N_HEADS 14
#define N_KV_HEADS 2
#define HEAD_DIM 64
#define WINDOW 0
#define MAX_ROWS 130
#define SPAN_WARPS 4
#include "emulator/run_attention.h"
