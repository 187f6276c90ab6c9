#include "emulator/variant.h"
#define VARIANT few_one_cluster
// few_output_q4_k, one row: segments in two blocks of a cluster and two ways of each.
#define STAGE_OUTPUT 1
#define N_ROWS 150
#define N_COLS 2304
#define FORMAT_0 FORMAT_Q4_K
#define FROM_GLU 1
#define MAX_ROWS 1
#define BLOCKS 4
#define WARPS 10
#define K_BLOCKS 2
#define CLUSTERS 1
#define K_WAYS 2
#define RING_BYTES 49152
#include "emulator/run_few.h"
