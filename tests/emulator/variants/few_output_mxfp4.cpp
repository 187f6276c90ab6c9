#include "emulator/variant.h"
#define VARIANT few_output_mxfp4
// Every format: a ring, a last band that is not full, a last half tile that is not full.
#define STAGE_OUTPUT 1
#define N_ROWS 70
#define N_COLS 736
#define FORMAT_0 FORMAT_MXFP4
#define MAX_ROWS 8
#define BLOCKS 2
#define WARPS 3
#define RING_BYTES 32768
#include "emulator/run_few.h"
