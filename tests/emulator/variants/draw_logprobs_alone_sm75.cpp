#define SM_ARCH 75
#include "emulator/variant.h"
#define VARIANT draw_logprobs_alone
// Hardly any candidates are ranked one by one: the last block searches alone.
#define STAGE_DRAW 5
#define N_VOCAB 1411
#define HEAD_BLOCKS 47
#define MAX_ROWS 33
#define WARPS 2
#define LOGPROBS_BLOCKS 2
#define CANDIDATES_MAX 8
#include "emulator/run_rows.h"
