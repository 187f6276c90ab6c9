#define SM_ARCH 80
#include "emulator/variant.h"
#define VARIANT many_glu_older
// many_glu with columns split in the block.
#define STAGE_GLU 1
#define D_MODEL 512
#define D_FF 96
#define ACTIVATION ACTIVATION_SWIGLU_CLAMPED
#define HAS_BIAS 1
#define FORMAT_0 FORMAT_IQ1_M
#define FORMAT_1 FORMAT_Q1_0
#define MAX_ROWS 32
#define TILE_ROWS 32
#define WARPS 8
#define K_WAYS_BLOCK 2
#define RING_BYTES 81920
#define BLOCKS 2
#include "emulator/run_many.h"
