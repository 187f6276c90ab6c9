#include "emulator/variant.h"
#define VARIANT few_glu_one
// few_glu, one row; segments side by side.
#define STAGE_GLU 1
#define D_MODEL 768
#define D_FF 248
#define ACTIVATION ACTIVATION_SILU
#define FORMAT_0 FORMAT_Q4_K
#define NORM_INPUT 1
#define NORM_EPS 1e-5f
#define MAX_ROWS 1
#define BLOCKS 3
#define WARPS 12
#define K_WAYS 3
#define RING_BYTES 131072
#include "emulator/run_few.h"
