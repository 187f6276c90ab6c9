#include "emulator/variant.h"
#define VARIANT few_one_blocks
// few_output_q4_k, one row: segments in two blocks, which meet in memory, and two ways of each; two passes.
#include "emulator/same_output.h"
#define MAX_ROWS 1
#define BLOCKS 4
#define WARPS 6
#define K_BLOCKS 2
#define K_WAYS 2
#define RING_BYTES 32768
#include "emulator/run_few.h"
