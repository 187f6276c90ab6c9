#include "emulator/variant.h"
#define VARIANT draw_logprobs
#define STAGE_DRAW 5
#define N_VOCAB 1411
#define HEAD_BLOCKS 47
#define MAX_ROWS 33
#define WARPS 4
#define LOGPROBS_BLOCKS 5
#include "emulator/run_rows.h"
