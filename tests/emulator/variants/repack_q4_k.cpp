#include "emulator/variant.h"
#define VARIANT repack_q4_k
// Repacking, and reading the values back.
#define STAGE_REPACK 1
#define FORMAT FORMAT_Q4_K
#include "emulator/run.h"
