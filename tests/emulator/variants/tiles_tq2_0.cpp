#include "emulator/variant.h"
#define VARIANT tiles_tq2_0
#define STAGE_TILES 1
#define FORMAT FORMAT_TQ2_0
#include "emulator/run_tiles.h"
