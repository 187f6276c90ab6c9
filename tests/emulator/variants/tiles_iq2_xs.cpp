#include "emulator/variant.h"
#define VARIANT tiles_iq2_xs
#define STAGE_TILES 1
#define FORMAT FORMAT_IQ2_XS
#include "emulator/run_tiles.h"
