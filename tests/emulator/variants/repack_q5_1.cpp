#include "emulator/variant.h"
#define VARIANT repack_q5_1
// Repacking, and reading the values back.
#define STAGE_REPACK 1
#define FORMAT FORMAT_Q5_1
#include "emulator/run.h"
