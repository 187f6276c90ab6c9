#include "emulator/variant.h"
#define VARIANT prefill_norm
// Rows that end within 128 columns.
#define STAGE_PREFILL_NORM 1
#define D_MODEL 288
#define NORM_EPS 1e-6f
#define MAX_ROWS 128
#include "emulator/run.h"
