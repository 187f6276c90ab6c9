#define SM_ARCH 75
#include "emulator/variant.h"
#define VARIANT many_128_older
// Tiles of 64 rows for older GPUs.
#include "emulator/same_output.h"
#define MAX_ROWS 128
#define TILE_ROWS 64
#define WARPS 4
#define RING_BYTES 49152
#define BLOCKS 2
#include "emulator/run_many.h"
