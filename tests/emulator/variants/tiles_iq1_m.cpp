#include "emulator/variant.h"
#define VARIANT tiles_iq1_m
#define STAGE_TILES 1
#define FORMAT FORMAT_IQ1_M
#include "emulator/run_tiles.h"
