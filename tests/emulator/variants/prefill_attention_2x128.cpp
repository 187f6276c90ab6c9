#include "emulator/variant.h"
#define VARIANT prefill_attention_2x128
// Every head has its own keys.
#define STAGE_PREFILL_ATTENTION 1
#define N_HEADS 2
#define N_KV_HEADS 2
#define HEAD_DIM 128
#define WINDOW 0
#define MAX_ROWS 128
#include "emulator/run.h"
