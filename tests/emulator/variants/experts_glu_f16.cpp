#include "emulator/variant.h"
#define VARIANT experts_glu_f16
// Float weights.
#define STAGE_EXPERTS_GLU 1
#define D_MODEL 160
#define D_FF 24
#define N_EXPERTS 5
#define N_USED 2
#define NORM_EPS 1e-6f
#define ACTIVATION ACTIVATION_SILU
#define FORMAT_0 FORMAT_F16
#define BLOCKS 2
#define WARPS 2
#define RING_BYTES 16384
#include "emulator/run.h"
