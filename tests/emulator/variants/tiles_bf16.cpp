#include "emulator/variant.h"
#define VARIANT tiles_bf16
#define STAGE_TILES 1
#define FORMAT FORMAT_BF16
#include "emulator/run_tiles.h"
