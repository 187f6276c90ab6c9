#include "emulator/variant.h"
#define VARIANT draw_rank
#define STAGE_DRAW 3
#define N_VOCAB 1411
#define HEAD_BLOCKS 47
#define MAX_ROWS 33
#define WARPS 4
#define DRAW_BLOCKS 3
#include "emulator/run_rows.h"
