#include "emulator/variant.h"
#define VARIANT tiles_q1_0
#define STAGE_TILES 1
#define FORMAT FORMAT_Q1_0
#include "emulator/run_tiles.h"
