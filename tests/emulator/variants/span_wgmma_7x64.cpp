#include "emulator/variant.h"
#define VARIANT span_wgmma_7x64
// Seven heads share keys.
#define STAGE_SPAN_WGMMA 1
#define N_HEADS 14
#define N_KV_HEADS 2
#define HEAD_DIM 64
#define WINDOW 0
#define MAX_ROWS 130
#define SPAN_BLOCKS 3
#include "emulator/run_attention.h"
