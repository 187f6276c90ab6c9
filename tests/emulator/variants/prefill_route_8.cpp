#include "emulator/variant.h"
#define VARIANT prefill_route_8
// Eight rows a block.
#define STAGE_PREFILL_ROUTE 1
#define D_MODEL 160
#define N_EXPERTS 9
#define N_USED 3
#define NORM_EPS 1e-6f
#define FORMAT_0 FORMAT_F32
#define ROUTE_ROWS 8
#define MAX_ROWS 128
#include "emulator/run.h"
