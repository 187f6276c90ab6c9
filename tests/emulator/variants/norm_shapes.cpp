#include "emulator/variant.h"
#define VARIANT norm_shapes
#define STAGE_NORM_SHAPES 1
#define NORM_EPS 1e-5f
#define MAX_ROWS 8
#include "emulator/run_rows.h"
