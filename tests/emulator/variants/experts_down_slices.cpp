#include "emulator/variant.h"
#define VARIANT experts_down_slices
// Segments of two tiles, each a piece of its own.
#define STAGE_EXPERTS_DOWN 1
#define D_MODEL 75
#define D_FF 1120
#define N_EXPERTS 6
#define N_USED 4
#define FORMAT_0 FORMAT_Q8_0
#define BLOCKS 3
#define WARPS 4
#define RING_BYTES 16384
#include "emulator/run.h"
