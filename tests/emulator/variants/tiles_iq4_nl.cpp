#include "emulator/variant.h"
#define VARIANT tiles_iq4_nl
#define STAGE_TILES 1
#define FORMAT FORMAT_IQ4_NL
#include "emulator/run_tiles.h"
