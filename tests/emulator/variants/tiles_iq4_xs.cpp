#include "emulator/variant.h"
#define VARIANT tiles_iq4_xs
#define STAGE_TILES 1
#define FORMAT FORMAT_IQ4_XS
#include "emulator/run_tiles.h"
