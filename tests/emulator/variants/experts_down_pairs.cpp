#include "emulator/variant.h"
#define VARIANT experts_down_pairs
// Two rows a unit, an odd number of them; two pieces of a segment.
#define STAGE_EXPERTS_DOWN 1
#define D_MODEL 75
#define D_FF 1120
#define N_EXPERTS 6
#define N_USED 3
#define FORMAT_0 FORMAT_MXFP4
#define ROWS 2
#define PIECES 2
#define BLOCKS 3
#define WARPS 5
#define RING_BYTES 40960
#include "emulator/run.h"
