#include "emulator/variant.h"
#define VARIANT prefill_norm_layer
// Layer norm; rows that end within 128 columns.
#define STAGE_PREFILL_NORM 1
#define LAYER_NORM 1
#define D_MODEL 288
#define NORM_EPS 1e-5f
#define MAX_ROWS 128
#include "emulator/run.h"
