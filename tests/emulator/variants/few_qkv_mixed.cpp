#include "emulator/variant.h"
#define VARIANT few_qkv_mixed
// Three formats, two of them with codebooks, of both widths of tiles.
#define STAGE_QKV 1
#define D_MODEL 768
#define N_HEADS 2
#define N_KV_HEADS 1
#define HEAD_DIM 48
#define FORMAT_0 FORMAT_IQ2_S
#define FORMAT_1 FORMAT_NVFP4
#define FORMAT_2 FORMAT_IQ3_XXS
#define MAX_ROWS 8
#define CODEBOOK_COPIES 4
#define BLOCKS 2
#define WARPS 4
#define RING_BYTES 65536
#include "emulator/run_few.h"
