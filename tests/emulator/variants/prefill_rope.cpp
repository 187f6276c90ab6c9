#include "emulator/variant.h"
#define VARIANT prefill_rope
// Positions of a later step.
#define STAGE_PREFILL_ROPE 1
#define ROPE_DIMS 48
#define ROPE_SCALE 1.25f
#define MAX_ROWS 128
#include "emulator/run.h"
