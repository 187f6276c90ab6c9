#include "emulator/variant.h"
#define VARIANT draw_greedy
#define STAGE_DRAW 1
#define HEAD_BLOCKS 47
#define MAX_ROWS 33
#include "emulator/run_rows.h"
