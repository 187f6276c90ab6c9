#include "emulator/variant.h"
#define VARIANT tiles_q3_k
#define STAGE_TILES 1
#define FORMAT FORMAT_Q3_K
#include "emulator/run_tiles.h"
