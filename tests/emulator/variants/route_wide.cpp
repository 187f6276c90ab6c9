#include "emulator/variant.h"
#define VARIANT route_wide
// Several groups a thread, quantised.
#define STAGE_ROUTE 1
#define D_MODEL 1056
#define N_EXPERTS 40
#define NORM_EPS 1e-6f
#define FORMAT_0 FORMAT_Q8_0
#include "emulator/run.h"
