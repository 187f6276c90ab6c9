#include "emulator/variant.h"
#define VARIANT tiles_iq3_s
#define STAGE_TILES 1
#define FORMAT FORMAT_IQ3_S
#include "emulator/run_tiles.h"
