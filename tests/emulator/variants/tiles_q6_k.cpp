#include "emulator/variant.h"
#define VARIANT tiles_q6_k
#define STAGE_TILES 1
#define FORMAT FORMAT_Q6_K
#include "emulator/run_tiles.h"
