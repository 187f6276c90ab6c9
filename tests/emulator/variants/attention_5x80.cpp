#include "emulator/variant.h"
#define VARIANT attention_5x80
// Heads of half a load more; five share keys.
#define STAGE_ATTENTION 1
#define N_HEADS 10
#define N_KV_HEADS 2
#define HEAD_DIM 80
#define WARPS 2
#define SPLITS_MAX 4
#define SPLIT_PAGES_MIN 2
#define WINDOW 0
#include "emulator/run.h"
