#include "emulator/variant.h"
#define VARIANT post_norm
// A width that is no multiple of the block's.
#define STAGE_POST_NORM 1
#define D_MODEL 2592
#define NORM_EPS 1e-6f
#include "emulator/run.h"
