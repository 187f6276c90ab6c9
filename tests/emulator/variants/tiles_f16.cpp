#include "emulator/variant.h"
#define VARIANT tiles_f16
#define STAGE_TILES 1
#define FORMAT FORMAT_F16
#include "emulator/run_tiles.h"
