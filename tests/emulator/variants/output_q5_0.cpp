#include "emulator/variant.h"
#define VARIANT output_q5_0
// Every format: a full tile and a part of one, rows in slices through a ring.
#define STAGE_OUTPUT 1
#define N_ROWS 37
#define N_COLS 1280
#define FORMAT_0 FORMAT_Q5_0
#define BLOCKS 3
#define WARPS 2
#define RING_BYTES 12400
#include "emulator/run.h"
