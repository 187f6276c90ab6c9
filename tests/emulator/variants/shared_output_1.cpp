#include "emulator/variant.h"
#define VARIANT shared_output_1
// The shared expert of moe_shared_down_1.
#define STAGE_OUTPUT 1
#define FROM_GLU 1
#define HAS_SHARE 1
#define N_ROWS 288
#define N_COLS 96
#define FORMAT_0 FORMAT_MXFP4
#define MAX_ROWS 1
#define BLOCKS 4
#define WARPS 5
#define RING_BYTES 16384
#include "emulator/run_few.h"
