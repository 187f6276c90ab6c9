#include "emulator/variant.h"
#define VARIANT few_glu
// Gate and up in one format; passes through a ring.
#define STAGE_GLU 1
#define D_MODEL 768
#define D_FF 248
#define ACTIVATION ACTIVATION_SILU
#define FORMAT_0 FORMAT_Q4_K
#define NORM_INPUT 1
#define NORM_EPS 1e-5f
#define MAX_ROWS 8
#define BLOCKS 2
#define WARPS 6
#define RING_BYTES 32768
#include "emulator/run_few.h"
