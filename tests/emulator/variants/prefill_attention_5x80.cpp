#include "emulator/variant.h"
#define VARIANT prefill_attention_5x80
// Heads of 80.
#define STAGE_PREFILL_ATTENTION 1
#define N_HEADS 5
#define N_KV_HEADS 1
#define HEAD_DIM 80
#define WINDOW 0
#define MAX_ROWS 128
#include "emulator/run.h"
