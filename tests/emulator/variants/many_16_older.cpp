#define SM_ARCH 80
#include "emulator/variant.h"
#define VARIANT many_16_older
// many_16 with columns split in the block, for GPUs without clusters.
#include "emulator/same_output.h"
#define MAX_ROWS 16
#define TILE_ROWS 16
#define WARPS 8
#define K_WAYS_BLOCK 4
#define RING_BYTES 65536
#define BLOCKS 2
#include "emulator/run_many.h"
