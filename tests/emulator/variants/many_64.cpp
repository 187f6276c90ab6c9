#include "emulator/variant.h"
#define VARIANT many_64
// All bands in a pass, two groups of warps without any of the last ones.
#include "emulator/same_output.h"
#define MAX_ROWS 64
#define TILE_ROWS 64
#define WARPS 16
#define RING_BYTES 131072
#define BLOCKS 1
#include "emulator/run_many.h"
