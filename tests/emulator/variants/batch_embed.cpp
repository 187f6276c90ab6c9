#include "emulator/variant.h"
#define VARIANT batch_embed
// The last tile is not full, the last block of columns neither; two rope tables.
#define STAGE_EMBED 1
#define D_MODEL 800
#define N_VOCAB 70
#define EMBED_FORMAT FORMAT_Q8_0
#define ROPE_VALUES 57
#define EMBED_SCALE 1.5f
#define MAX_ROWS 9
#include "emulator/run_rows.h"
