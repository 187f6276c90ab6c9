#include "emulator/variant.h"
#define VARIANT glu_resident
// Everything resident.
#define STAGE_GLU 1
#define D_MODEL 224
#define D_FF 76
#define NORM_EPS 1e-6f
#define ACTIVATION ACTIVATION_SILU
#define FORMAT_0 FORMAT_Q5_0
#define BLOCKS 3
#define WARPS 8
#define RING_BYTES 65536
#include "emulator/run.h"
