#include "emulator/variant.h"
#define VARIANT repack_bf16
// Repacking, and reading the values back.
#define STAGE_REPACK 1
#define FORMAT FORMAT_BF16
#include "emulator/run.h"
