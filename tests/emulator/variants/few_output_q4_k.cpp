#include "emulator/variant.h"
#define VARIANT few_output_q4_k
// Five segments of two tiles; passes through a ring.
#include "emulator/same_output.h"
#define MAX_ROWS 8
#define BLOCKS 2
#define WARPS 3
#define RING_BYTES 28672
#include "emulator/run_few.h"
