#include "emulator/variant.h"
#define VARIANT few_ways
// few_output_q4_k: all weights wait, the segments are side by side, and their warps share the rows.
#include "emulator/same_output.h"
#define MAX_ROWS 8
#define BLOCKS 5
#define WARPS 10
#define K_WAYS 5
#define RING_BYTES 65536
#include "emulator/run_few.h"
