#include "emulator/variant.h"
#define VARIANT few_ring_ways
// few_output_q4_k: segments side by side, passes through a ring that has fewer slots than may be on their
// way.
#include "emulator/same_output.h"
#define MAX_ROWS 8
#define BLOCKS 1
#define WARPS 4
#define K_WAYS 2
#define FLIGHT 3
#define RING_BYTES 24576
#include "emulator/run_few.h"
