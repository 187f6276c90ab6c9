#include "emulator/variant.h"
#define VARIANT experts_down_f32
// Float weights, few rows.
#define STAGE_EXPERTS_DOWN 1
#define D_MODEL 32
#define D_FF 96
#define N_EXPERTS 5
#define N_USED 2
#define FORMAT_0 FORMAT_F32
#define BLOCKS 2
#define WARPS 2
#define RING_BYTES 16384
#include "emulator/run.h"
