#include "emulator/variant.h"
#define VARIANT few_qkv_mixed
// Three formats, of both widths of tiles.
#define STAGE_QKV 1
#define D_MODEL 768
#define N_HEADS 2
#define N_KV_HEADS 1
#define HEAD_DIM 48
#define FORMAT_0 FORMAT_Q4_K
#define FORMAT_1 FORMAT_Q8_0
#define FORMAT_2 FORMAT_Q6_K
#define MAX_ROWS 8
#define BLOCKS 2
#define WARPS 4
#define RING_BYTES 65536
#include "emulator/run_few.h"
