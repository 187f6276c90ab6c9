#include "emulator/variant.h"
#define VARIANT tiles_q5_0
#define STAGE_TILES 1
#define FORMAT FORMAT_Q5_0
#include "emulator/run_tiles.h"
