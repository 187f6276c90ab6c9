#include "emulator/variant.h"
#define VARIANT attention_4x128
// Few warps, long splits.
#define STAGE_ATTENTION 1
#define N_HEADS 8
#define N_KV_HEADS 2
#define HEAD_DIM 128
#define WARPS 2
#define SPLITS_MAX 2
#define SPLIT_PAGES_MIN 1
#define WINDOW 0
#include "emulator/run.h"
