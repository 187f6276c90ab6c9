#include "emulator/variant.h"
#define VARIANT span_attention_4x512
// The widest heads: their values in halves.
#define STAGE_SPAN_ATTENTION 1
#define N_HEADS 4
#define N_KV_HEADS 1
#define HEAD_DIM 512
#define WINDOW 0
#define MAX_ROWS 130
#define SPAN_WARPS 2
#include "emulator/run_attention.h"
