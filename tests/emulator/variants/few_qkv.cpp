#include "emulator/variant.h"
#define VARIANT few_qkv
// Two formats, bands that are not full.
#define STAGE_QKV 1
#define D_MODEL 896
#define N_HEADS 3
#define N_KV_HEADS 1
#define HEAD_DIM 40
#define FORMAT_0 FORMAT_Q8_0
#define FORMAT_1 FORMAT_Q8_0
#define FORMAT_2 FORMAT_Q5_0
#define MAX_ROWS 8
#define BLOCKS 3
#define WARPS 8
#define K_WAYS 4
#define RING_BYTES 131072
#include "emulator/run_few.h"
