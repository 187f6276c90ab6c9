#include "emulator/variant.h"
#define VARIANT output_q4_1_other
// output_q4_1 as on another GPU: all weights wait in the ring, unpacked where the format can be.
#define STAGE_OUTPUT 1
#define N_ROWS 37
#define N_COLS 1280
#define FORMAT_0 FORMAT_Q4_1
#define BLOCKS 5
#define WARPS 4
#define RING_BYTES 98304
#include "emulator/run.h"
