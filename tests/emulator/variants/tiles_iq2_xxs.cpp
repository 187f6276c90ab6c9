#include "emulator/variant.h"
#define VARIANT tiles_iq2_xxs
#define STAGE_TILES 1
#define FORMAT FORMAT_IQ2_XXS
#include "emulator/run_tiles.h"
