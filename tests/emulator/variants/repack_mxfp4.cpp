#include "emulator/variant.h"
#define VARIANT repack_mxfp4
// Repacking, and reading the values back.
#define STAGE_REPACK 1
#define FORMAT FORMAT_MXFP4
#include "emulator/run.h"
