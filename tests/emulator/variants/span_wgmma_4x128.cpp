#include "emulator/variant.h"
#ifndef VARIANT
#define VARIANT span_wgmma_4x128
#endif
// Four heads share keys.
#define STAGE_SPAN_WGMMA 1
#define N_HEADS 8
#define N_KV_HEADS 2
#define HEAD_DIM 128
#define WINDOW 0
#define MAX_ROWS 130
#define SPAN_BLOCKS 3
#include "emulator/run_attention.h"
