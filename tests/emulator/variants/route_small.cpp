#include "emulator/variant.h"
#define VARIANT route_small
// Fewer columns than threads, a tail of them.
#define STAGE_ROUTE 1
#define D_MODEL 288
#define N_EXPERTS 9
#define NORM_EPS 1e-6f
#define FORMAT_0 FORMAT_F32
#include "emulator/run.h"
