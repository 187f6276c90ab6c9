#include "emulator/variant.h"
#define VARIANT tiles_q5_1
#define STAGE_TILES 1
#define FORMAT FORMAT_Q5_1
#include "emulator/run_tiles.h"
