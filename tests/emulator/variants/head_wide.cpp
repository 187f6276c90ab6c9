#include "emulator/variant.h"
#define VARIANT head_wide
// Eight-bit head, two tiles.
#define STAGE_HEAD 1
#define D_MODEL 1056
#define N_VOCAB 203
#define NORM_EPS 1e-6f
#define FORMAT_0 FORMAT_Q8_0
#define BLOCKS 5
#define WARPS 4
#define RING_BYTES 65536
#include "emulator/run.h"
