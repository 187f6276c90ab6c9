#include "emulator/variant.h"
#define VARIANT draw_sample_wide
// Chunks of more logits than a block has threads, and more chunks than those of 262,144 logits.
#define STAGE_DRAW 4
#define N_VOCAB 270001
#define HEAD_BLOCKS 47
#define MAX_ROWS 1
#define WARPS 4
#define DRAW_BLOCKS 7
#include "emulator/run_rows.h"
