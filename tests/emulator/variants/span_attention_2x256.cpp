#include "emulator/variant.h"
#ifndef VARIANT
#define VARIANT span_attention_2x256
#endif
// Large heads.
#define STAGE_SPAN_ATTENTION 1
#define N_HEADS 2
#define N_KV_HEADS 1
#define HEAD_DIM 256
#define WINDOW 0
#define MAX_ROWS 130
#ifndef SPAN_WARPS
#define SPAN_WARPS 4
#endif
#include "emulator/run_attention.h"
