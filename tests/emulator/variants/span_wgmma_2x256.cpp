#include "emulator/variant.h"
#ifndef VARIANT
#define VARIANT span_wgmma_2x256
#endif
// Large heads: each group of warps has half of the dims.
#define STAGE_SPAN_WGMMA 1
#define N_HEADS 2
#define N_KV_HEADS 1
#define HEAD_DIM 256
#define WINDOW 0
#define MAX_ROWS 130
#define SPAN_BLOCKS 3
#include "emulator/run_attention.h"
