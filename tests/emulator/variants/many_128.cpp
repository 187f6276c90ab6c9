#include "emulator/variant.h"
#define VARIANT many_128
// Tiles of 128 rows, two of them, and two passes: of 65 to 128 rows narrow tiles, of fewer half passes, too.
#include "emulator/same_output.h"
#define MAX_ROWS 256
#define TILE_ROWS 128
#define NARROW_TILES 1
#define WARPS 8
#define RING_BYTES 122880
#define BLOCKS 4
#include "emulator/run_many.h"
