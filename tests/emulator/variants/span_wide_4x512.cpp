#include "emulator/variant.h"
#define VARIANT span_wide_4x512
// 20 rows of 4 heads a cluster.
#define STAGE_SPAN_WIDE 1
#define N_HEADS 4
#define N_KV_HEADS 1
#define HEAD_DIM 512
#define WINDOW 0
#define MAX_ROWS 130
#define SPAN_BLOCKS 4
#include "emulator/run_attention.h"
