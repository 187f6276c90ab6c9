#include "emulator/variant.h"
#define VARIANT glu_mxfp4
// Four bits that stand for a float, unpacked before the input comes; a tile and a part of one.
#define STAGE_GLU 1
#define D_MODEL 1440
#define D_FF 52
#define NORM_EPS 1e-6f
#define ACTIVATION ACTIVATION_SILU
#define FORMAT_0 FORMAT_MXFP4
#define BLOCKS 3
#define WARPS 8
#define RING_BYTES 65536
#include "emulator/run.h"
