#include "emulator/variant.h"
#define VARIANT batch_rope
// More dimensions than lanes; the last block has one row.
#define STAGE_ROPE 1
#define ROPE_DIMS 80
#define ROPE_SCALE 1.25f
#define MAX_ROWS 9
#include "emulator/run_rows.h"
