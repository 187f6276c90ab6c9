#include "emulator/variant.h"
#define VARIANT span_attention_2x256_small
// A GPU with less shared memory: two warps.
#define STAGE_SPAN_ATTENTION 1
#define N_HEADS 2
#define N_KV_HEADS 1
#define HEAD_DIM 256
#define WINDOW 0
#define MAX_ROWS 130
#define SPAN_WARPS 2
#define SHARED_BYTES_MAX (99 * 1024)
#include "emulator/run_attention.h"
