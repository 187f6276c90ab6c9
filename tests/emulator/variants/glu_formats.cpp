#include "emulator/variant.h"
#define VARIANT glu_formats
// Gate and up in formats of different sizes, through a ring in slices.
#define STAGE_GLU 1
#define ROW_FORMATS 1
#define D_MODEL 1280
#define D_FF 45
#define NORM_EPS 1e-6f
#define ACTIVATION ACTIVATION_SILU
#define FORMAT_0 FORMAT_Q4_K
#define FORMAT_1 FORMAT_Q6_K
#define BLOCKS 2
#define WARPS 2
#define RING_BYTES 8192
#include "emulator/run.h"
