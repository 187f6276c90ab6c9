#include "emulator/variant.h"
#define VARIANT few_qkv_norm
// few_qkv with its norm before it.
#define STAGE_QKV 1
#define D_MODEL 896
#define N_HEADS 3
#define N_KV_HEADS 1
#define HEAD_DIM 40
#define FORMAT_0 FORMAT_Q8_0
#define FORMAT_1 FORMAT_Q8_0
#define FORMAT_2 FORMAT_Q5_0
#define NORM_INPUT 1
#define NORM_EPS 1e-5f
#define MAX_ROWS 8
#define BLOCKS 2
#define WARPS 3
#define RING_BYTES 24576
#include "emulator/run_few.h"
