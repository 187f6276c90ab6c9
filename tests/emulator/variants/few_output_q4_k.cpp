#include "emulator/variant.h"
#define VARIANT few_output_q4_k
// Five segments of two tiles; passes through a ring.
#define STAGE_OUTPUT 1
#define N_ROWS 150
#define N_COLS 2304
#define FORMAT_0 FORMAT_Q4_K
#define FROM_GLU 1
#define MAX_ROWS 8
#define BLOCKS 2
#define WARPS 3
#define RING_BYTES 28672
#include "emulator/run_few.h"
