#include "emulator/variant.h"
#define VARIANT experts_down_k
// Five-bit superblocks, segments within a tile.
#define STAGE_EXPERTS_DOWN 1
#define D_MODEL 40
#define D_FF 256
#define N_EXPERTS 7
#define N_USED 2
#define FORMAT_0 FORMAT_Q5_K
#define BLOCKS 2
#define WARPS 2
#define RING_BYTES 16384
#include "emulator/run.h"
