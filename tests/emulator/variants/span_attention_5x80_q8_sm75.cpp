#define SM_ARCH 75
#include "emulator/variant.h"
#define VARIANT span_attention_5x80_q8
// A cache of 8 bits, whose tokens are five units of 16 bytes.
#define KV_Q8 1
#define STAGE_SPAN_ATTENTION 1
#define N_HEADS 5
#define N_KV_HEADS 1
#define HEAD_DIM 80
#define WINDOW 0
#define MAX_ROWS 130
#define SPAN_WARPS 4
#include "emulator/run_attention.h"
