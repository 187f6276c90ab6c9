#include "emulator/variant.h"
#define VARIANT prefill_route_2
// Two rows a block, more experts than lanes, quantised.
#define STAGE_PREFILL_ROUTE 1
#define D_MODEL 288
#define N_EXPERTS 45
#define N_USED 4
#define NORM_EPS 1e-6f
#define FORMAT_0 FORMAT_Q8_0
#define ROUTE_ROWS 2
#define MAX_ROWS 128
#include "emulator/run.h"
