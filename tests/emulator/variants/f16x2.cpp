#include "emulator/variant.h"
#define VARIANT f16x2
#define STAGE_F16X2 1
#include "emulator/run_tiles.h"
