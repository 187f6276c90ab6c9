#include "emulator/variant.h"
#define VARIANT many_128_wide
// The same without narrow tiles.
#include "emulator/same_output.h"
#define MAX_ROWS 256
#define TILE_ROWS 128
#define WARPS 8
#define RING_BYTES 122880
#define BLOCKS 4
#include "emulator/run_many.h"
