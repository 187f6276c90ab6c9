#include "emulator/variant.h"
#define VARIANT prefill_embed
// An 8-bit embedding, rows of one tile and a piece.
#define STAGE_PREFILL_EMBED 1
#define D_MODEL 1056
#define EMBED_FORMAT FORMAT_Q8_0
#define EMBED_SCALE 1.5f
#define MAX_ROWS 64
#include "emulator/run.h"
