#include "emulator/variant.h"
#define VARIANT norm_rows_1120
// What batch_route_64 stores, too.
#define STAGE_NORM_ROWS 1
#define D_MODEL 1120
#define NORM_EPS 1e-5f
#define MAX_ROWS 64
#include "emulator/run_rows.h"
