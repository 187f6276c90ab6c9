#include "emulator/variant.h"
#define VARIANT attention_3x256
// Large heads, a window.
#define STAGE_ATTENTION 1
#define N_HEADS 3
#define N_KV_HEADS 1
#define HEAD_DIM 256
#define WARPS 2
#define SPLITS_MAX 4
#define SPLIT_PAGES_MIN 2
#define WINDOW 50
#include "emulator/run.h"
