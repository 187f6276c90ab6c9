#include "emulator/variant.h"
#define VARIANT draw_adjust
// Blocks of several parts.
#define STAGE_DRAW 2
#define N_VOCAB 1411
#define HEAD_BLOCKS 47
#define MAX_ROWS 33
#define WARPS 4
#define ADJUST_BLOCKS 3
#include "emulator/run_rows.h"
