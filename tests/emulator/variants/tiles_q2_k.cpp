#include "emulator/variant.h"
#define VARIANT tiles_q2_k
#define STAGE_TILES 1
#define FORMAT FORMAT_Q2_K
#include "emulator/run_tiles.h"
