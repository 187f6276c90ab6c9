#include "emulator/variant.h"
#define VARIANT many_32
// Columns split over clusters of two blocks and in each of them; two blocks a multiprocessor.
#include "emulator/same_output.h"
#define MAX_ROWS 32
#define TILE_ROWS 32
#define WARPS 8
#define K_WAYS_CLUSTER 2
#define K_WAYS_BLOCK 2
#define RING_BYTES 90112
#define BLOCKS 1
#define PASSES 3
#define BLOCKS_PER_SM 2
#include "emulator/run_many.h"
