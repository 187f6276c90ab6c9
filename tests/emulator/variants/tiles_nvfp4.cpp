#include "emulator/variant.h"
#define VARIANT tiles_nvfp4
#define STAGE_TILES 1
#define FORMAT FORMAT_NVFP4
#include "emulator/run_tiles.h"
