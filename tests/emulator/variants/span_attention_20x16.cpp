#include "emulator/variant.h"
#define VARIANT span_attention_20x16
// More heads share keys than a product has rows.
#define STAGE_SPAN_ATTENTION 1
#define N_HEADS 20
#define N_KV_HEADS 1
#define HEAD_DIM 16
#define WINDOW 0
#define MAX_ROWS 130
#define SPAN_WARPS 4
#include "emulator/run_attention.h"
