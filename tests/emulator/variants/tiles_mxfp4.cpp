#include "emulator/variant.h"
#define VARIANT tiles_mxfp4
#define STAGE_TILES 1
#define FORMAT FORMAT_MXFP4
#include "emulator/run_tiles.h"
