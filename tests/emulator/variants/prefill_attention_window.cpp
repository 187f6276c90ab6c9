#include "emulator/variant.h"
#define VARIANT prefill_attention_window
// A sliding window, sinks, and capped scores.
#define STAGE_PREFILL_ATTENTION 1
#define N_HEADS 4
#define N_KV_HEADS 2
#define HEAD_DIM 48
#define WINDOW 37
#define SOFT_CAP 1.5f
#define HAS_SINKS 1
#define MAX_ROWS 128
#include "emulator/run.h"
