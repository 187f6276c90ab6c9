#include "emulator/variant.h"
#define VARIANT attention_12x32
// More heads share keys than a tile holds.
#define STAGE_ATTENTION 1
#define N_HEADS 12
#define N_KV_HEADS 1
#define HEAD_DIM 32
#define WARPS 2
#define SPLITS_MAX 4
#define SPLIT_PAGES_MIN 2
#define WINDOW 0
#include "emulator/run.h"
