#define SM_ARCH 75
#include "emulator/variant.h"
#define VARIANT draw_rank_runs
// Histograms of five chunks at a time.
#define STAGE_DRAW 3
#define N_VOCAB 1411
#define HEAD_BLOCKS 47
#define MAX_ROWS 33
#define WARPS 2
#define DRAW_BLOCKS 2
#define HISTOGRAM_LOGITS 160
#include "emulator/run_rows.h"
