#include "emulator/variant.h"
#define VARIANT tiles_q2_0
#define STAGE_TILES 1
#define FORMAT FORMAT_Q2_0
#include "emulator/run_tiles.h"
