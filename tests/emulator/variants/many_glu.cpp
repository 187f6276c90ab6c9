#include "emulator/variant.h"
#define VARIANT many_glu
// Gate and up in two formats, clamped, with biases.
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
#define RING_BYTES 81920
#define BLOCKS 1
#include "emulator/run_many.h"
