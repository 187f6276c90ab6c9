#include "emulator/variant.h"
#define VARIANT tiles_q8_0
#define STAGE_TILES 1
#define FORMAT FORMAT_Q8_0
#include "emulator/run_tiles.h"
