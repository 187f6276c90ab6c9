#include "emulator/variant.h"
#define VARIANT tiles_f32
#define STAGE_TILES 1
#define FORMAT FORMAT_F32
#include "emulator/run_tiles.h"
