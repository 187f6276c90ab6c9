#include "emulator/variant.h"
#define VARIANT tiles_q4_k
#define STAGE_TILES 1
#define FORMAT FORMAT_Q4_K
#include "emulator/run_tiles.h"
