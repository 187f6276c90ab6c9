#include "emulator/variant.h"
#ifndef VARIANT
#define VARIANT span_attention_window
#endif
// A sliding window, sinks, and capped scores.
#define STAGE_SPAN_ATTENTION 1
#define N_HEADS 4
#define N_KV_HEADS 2
#define HEAD_DIM 64
#define WINDOW 150
#define SOFT_CAP 1.5f
#define HAS_SINKS 1
#define MAX_ROWS 130
#define SPAN_WARPS 4
#include "emulator/run_attention.h"
