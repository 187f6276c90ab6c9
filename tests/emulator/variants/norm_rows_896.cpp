#include "emulator/variant.h"
#define VARIANT norm_rows_896
// A batch's class; the last piece is half of one.
#define STAGE_NORM_ROWS 1
#define D_MODEL 896
#define NORM_EPS 1e-5f
#define MAX_ROWS 8
#include "emulator/run_rows.h"
