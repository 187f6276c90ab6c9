#include "emulator/variant.h"
#define VARIANT few_qkv_pieces
// Formats that differ in bytes: 18 bands of Q4_K and two of Q8_0, whose steps have two tiles.
#define STAGE_QKV 1
#define D_MODEL 1280
#define N_HEADS 8
#define N_KV_HEADS 1
#define HEAD_DIM 32
#define FORMAT_0 FORMAT_Q4_K
#define FORMAT_1 FORMAT_Q4_K
#define FORMAT_2 FORMAT_Q8_0
#define MAX_ROWS 8
#define BLOCKS 6
#define WARPS 8
#define K_WAYS 2
#define OWN_PIECES 11264
#define RING_BYTES 45056
#include "emulator/run_few.h"
