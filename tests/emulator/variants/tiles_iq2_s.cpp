#include "emulator/variant.h"
#define VARIANT tiles_iq2_s
#define STAGE_TILES 1
#define FORMAT FORMAT_IQ2_S
#include "emulator/run_tiles.h"
