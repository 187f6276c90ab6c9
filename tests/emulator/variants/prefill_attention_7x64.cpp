#include "emulator/variant.h"
#define VARIANT prefill_attention_7x64
// Seven heads on one.
#define STAGE_PREFILL_ATTENTION 1
#define N_HEADS 7
#define N_KV_HEADS 1
#define HEAD_DIM 64
#define WINDOW 0
#define MAX_ROWS 128
#include "emulator/run.h"
