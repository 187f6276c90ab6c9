#include "emulator/variant.h"
#define VARIANT prefill_embed_learned
// Learned positions.
#define STAGE_PREFILL_EMBED 1
#define LEARNED_POSITIONS 1
#define D_MODEL 96
#define EMBED_FORMAT FORMAT_F16
#define EMBED_SCALE 1.0f
#define MAX_ROWS 64
#include "emulator/run.h"
