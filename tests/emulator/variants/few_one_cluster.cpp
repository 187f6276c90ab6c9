#include "emulator/variant.h"
#define VARIANT few_one_cluster
// few_output_q4_k, one row: segments in two blocks of a cluster and two ways of each.
#include "emulator/same_output.h"
#define MAX_ROWS 1
#define BLOCKS 4
#define WARPS 10
#define K_BLOCKS 2
#define CLUSTERS 1
#define K_WAYS 2
#define RING_BYTES 49152
#include "emulator/run_few.h"
