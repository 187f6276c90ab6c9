#define SM_ARCH 75
#include "emulator/variant.h"
#define VARIANT draw_sample_digits
// Hardly any candidates are ranked one by one: the last block searches alone.
#define STAGE_DRAW 4
#define N_VOCAB 1411
#define HEAD_BLOCKS 47
#define MAX_ROWS 33
#define WARPS 2
#define DRAW_BLOCKS 2
#define HISTOGRAM_LOGITS 160
#define CANDIDATES_MAX 16
#include "emulator/run_rows.h"
