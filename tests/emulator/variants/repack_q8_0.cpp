#include "emulator/variant.h"
#define VARIANT repack_q8_0
// Repacking, and reading the values back.
#define STAGE_REPACK 1
#define FORMAT FORMAT_Q8_0
#include "emulator/run.h"
