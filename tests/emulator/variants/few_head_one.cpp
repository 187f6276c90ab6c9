#include "emulator/variant.h"
#define VARIANT few_head_one
// few_head with its norm before it, one row.
#define STAGE_HEAD 1
#define D_MODEL 512
#define N_VOCAB 421
#define FORMAT_0 FORMAT_Q6_K
#define SOFT_CAP 30.0f
#define NORM_INPUT 1
#define NORM_EPS 1e-5f
#define MAX_ROWS 1
#define BLOCKS 2
#define WARPS 5
#define RING_BYTES 65536
#include "emulator/run_few.h"
