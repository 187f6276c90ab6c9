#include "emulator/variant.h"
#define VARIANT attention_7x64
// Seven heads share keys.
#define STAGE_ATTENTION 1
#define N_HEADS 14
#define N_KV_HEADS 2
#define HEAD_DIM 64
#define WARPS 4
#define SPLITS_MAX 4
#define SPLIT_PAGES_MIN 4
#define WINDOW 0
#include "emulator/run.h"
