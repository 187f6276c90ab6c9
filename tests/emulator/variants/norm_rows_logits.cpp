#include "emulator/variant.h"
#define VARIANT norm_rows_logits
// The rows of a long prompt whose logits are wanted, layer norm, four pieces a warp.
#define STAGE_NORM_ROWS 1
#define D_MODEL 2880
#define LAYER_NORM 1
#define OF_LOGITS 1
#define NORM_EPS 1e-5f
#define MAX_ROWS 256
#undef ROW_BLOCKS_MAX
#define ROW_BLOCKS_MAX 2u
#include "emulator/run_rows.h"
