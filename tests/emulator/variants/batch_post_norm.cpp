#include "emulator/variant.h"
#define VARIANT batch_post_norm
// Two pieces, the last of which ends within a lane's first four columns.
#define STAGE_BATCH_POST_NORM 1
#define D_MODEL 288
#define NORM_EPS 1e-6f
#define MAX_ROWS 9
#include "emulator/run_rows.h"
