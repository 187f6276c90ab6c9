#include "emulator/variant.h"
#define VARIANT tiles_iq1_s
#define STAGE_TILES 1
#define FORMAT FORMAT_IQ1_S
#include "emulator/run_tiles.h"
