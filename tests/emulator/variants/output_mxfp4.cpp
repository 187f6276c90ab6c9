#include "emulator/variant.h"
#define VARIANT output_mxfp4
// Rows of GPT-OSS: two tiles and 26 blocks, in slices through a ring.
#define STAGE_OUTPUT 1
#define N_ROWS 37
#define N_COLS 2880
#define FORMAT_0 FORMAT_MXFP4
#define BLOCKS 3
#define WARPS 2
#define RING_BYTES 5200
#include "emulator/run.h"
