#include "emulator/variant.h"
#define VARIANT batch_embed_learned
// A prompt's class.
#define STAGE_EMBED 1
#define D_MODEL 1280
#define N_VOCAB 70
#define LEARNED_POSITIONS 1
#define EMBED_FORMAT FORMAT_Q4_K
#define ROPE_VALUES 0
#define EMBED_SCALE 1.0f
#define MAX_ROWS 256
#undef ROW_BLOCKS_MAX
#define ROW_BLOCKS_MAX 50u
#include "emulator/run_rows.h"
