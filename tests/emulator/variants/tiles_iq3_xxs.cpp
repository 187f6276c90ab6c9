#include "emulator/variant.h"
#define VARIANT tiles_iq3_xxs
#define STAGE_TILES 1
#define FORMAT FORMAT_IQ3_XXS
#include "emulator/run_tiles.h"
