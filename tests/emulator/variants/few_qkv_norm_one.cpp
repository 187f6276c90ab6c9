#include "emulator/variant.h"
#define VARIANT few_qkv_norm_one
// few_qkv with its norm before it, one row.
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
#define MAX_ROWS 1
#define BLOCKS 4
#define WARPS 3
#define RING_BYTES 65536
#include "emulator/run_few.h"
