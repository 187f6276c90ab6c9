#include "emulator/variant.h"
#define VARIANT tiles_q5_k
#define STAGE_TILES 1
#define FORMAT FORMAT_Q5_K
#include "emulator/run_tiles.h"
