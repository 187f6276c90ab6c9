#include "emulator/variant.h"
#define VARIANT output_pairs
// Two rows a unit, the last of them without a second; a block that takes more memory than it uses.
#define STAGE_OUTPUT 1
#define ROWS 2
#define N_ROWS 37
#define N_COLS 1280
#define FORMAT_0 FORMAT_Q4_K
#define BLOCKS 3
#define WARPS 2
#define RING_BYTES 12400
#define SHARED_BYTES_MIN 20000
#include "emulator/run.h"
