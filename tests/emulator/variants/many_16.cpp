#include "emulator/variant.h"
#define VARIANT many_16
// Five segments of two chunks, the last of one; bands that are not full.
#include "emulator/same_output.h"
#define MAX_ROWS 16
#define TILE_ROWS 16
#define WARPS 4
#define RING_BYTES 49152
#define BLOCKS 2
#include "emulator/run_many.h"
