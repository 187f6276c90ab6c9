#include "emulator/variant.h"
#define VARIANT many_qkv_mixed
// Three formats, two of them with codebooks, of both widths of tiles; a segment a group of warps.
#define STAGE_QKV 1
#define D_MODEL 768
#define N_HEADS 2
#define N_KV_HEADS 1
#define HEAD_DIM 48
#define FORMAT_0 FORMAT_IQ2_S
#define FORMAT_1 FORMAT_NVFP4
#define FORMAT_2 FORMAT_IQ3_XXS
#define MAX_ROWS 16
#define TILE_ROWS 16
#define WARPS 12
#define K_WAYS_BLOCK 3
#define RING_BYTES 131072
#define BLOCKS 1
#include "emulator/run_many.h"
