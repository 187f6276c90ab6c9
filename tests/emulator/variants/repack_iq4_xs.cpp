#include "emulator/variant.h"
#define VARIANT repack_iq4_xs
// Repacking, and reading the values back.
#define STAGE_REPACK 1
#define FORMAT FORMAT_IQ4_XS
#include "emulator/run.h"
