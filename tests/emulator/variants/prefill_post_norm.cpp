#include "emulator/variant.h"
#define VARIANT prefill_post_norm
// A width that is no multiple of a warp's.
#define STAGE_POST_NORM 1
#define D_MODEL 288
#define NORM_EPS 1e-6f
#define MAX_ROWS 128
#include "emulator/run.h"
