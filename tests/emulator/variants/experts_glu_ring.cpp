#include "emulator/variant.h"
#define VARIANT experts_glu_ring
// A ring that is refilled, rows in slices.
#define STAGE_EXPERTS_GLU 1
#define D_MODEL 1120
#define D_FF 44
#define N_EXPERTS 6
#define N_USED 4
#define NORM_EPS 1e-6f
#define ACTIVATION ACTIVATION_SWIGLU_CLAMPED
#define FORMAT_0 FORMAT_Q8_0
#define BLOCKS 3
#define WARPS 4
#define RING_BYTES 24576
#include "emulator/run.h"
