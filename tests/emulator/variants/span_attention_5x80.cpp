#include "emulator/variant.h"
#define VARIANT span_attention_5x80
// Heads of a sheet and a quarter; five share keys.
#define STAGE_SPAN_ATTENTION 1
#define N_HEADS 5
#define N_KV_HEADS 1
#define HEAD_DIM 80
#define WINDOW 0
#define MAX_ROWS 130
#define SPAN_WARPS 4
#include "emulator/run_attention.h"
