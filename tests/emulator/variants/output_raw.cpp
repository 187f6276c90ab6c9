#include "emulator/variant.h"
#define VARIANT output_raw
// For a norm of the output: nothing is added.
#define STAGE_OUTPUT 1
#define RAW 1
#define N_ROWS 37
#define N_COLS 1280
#define FORMAT_0 FORMAT_Q8_0
#define BLOCKS 3
#define WARPS 2
#define RING_BYTES 12400
#include "emulator/run.h"
