#include "emulator/variant.h"
#define VARIANT few_blocks
// few_output_q4_k: segments in three blocks of a cluster; before sm_90 they meet in memory.
#define CLUSTERS 1
#include "emulator/same_output.h"
#define MAX_ROWS 8
#define BLOCKS 6
#define WARPS 5
#define K_BLOCKS 3
#define RING_BYTES 65536
#include "emulator/run_few.h"
