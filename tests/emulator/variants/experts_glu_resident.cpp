#include "emulator/variant.h"
#define VARIANT experts_glu_resident
// Everything resident and unpacked; more experts than lanes.
#define STAGE_EXPERTS_GLU 1
#define D_MODEL 224
#define D_FF 32
#define N_EXPERTS 40
#define N_USED 3
#define NORM_EPS 1e-6f
#define ACTIVATION ACTIVATION_SILU
#define FORMAT_0 FORMAT_Q4_0
#define BLOCKS 16
#define WARPS 8
#define RING_BYTES 32768
#include "emulator/run.h"
