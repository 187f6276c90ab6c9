#include "emulator/variant.h"
#define VARIANT few_one_ways
// few_output_q4_k, one row: all weights wait, the segments are side by side.
#include "emulator/same_output.h"
#define MAX_ROWS 1
#define BLOCKS 5
#define WARPS 10
#define K_WAYS 5
#define RING_BYTES 65536
#include "emulator/run_few.h"
