#include "emulator/variant.h"
#define VARIANT attention_window
// A sliding window, capped scores; every head has its own keys.
#define STAGE_ATTENTION 1
#define N_HEADS 3
#define N_KV_HEADS 3
#define HEAD_DIM 96
#define WARPS 2
#define SPLITS_MAX 8
#define SPLIT_PAGES_MIN 1
#define WINDOW 37
#define SOFT_CAP 1.5f
#include "emulator/run.h"
