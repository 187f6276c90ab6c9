#include "emulator/variant.h"
#define VARIANT few_glu_formats
// Gate and up in two formats, clamped, with biases.
#define STAGE_GLU 1
#define D_MODEL 512
#define D_FF 96
#define ACTIVATION ACTIVATION_SWIGLU_CLAMPED
#define HAS_BIAS 1
#define FORMAT_0 FORMAT_IQ1_M
#define FORMAT_1 FORMAT_Q1_0
#define MAX_ROWS 8
#define BLOCKS 4
#define WARPS 4
#define RING_BYTES 65536
#include "emulator/run_few.h"
