#include "emulator/variant.h"
#define VARIANT repack_q3_k
// Repacking, and reading the values back.
#define STAGE_REPACK 1
#define FORMAT FORMAT_Q3_K
#include "emulator/run.h"
