#include "emulator/variant.h"
#define VARIANT prefill_attention_2x256
// Too large for two tiles.
#define STAGE_PREFILL_ATTENTION 1
#define N_HEADS 2
#define N_KV_HEADS 1
#define HEAD_DIM 256
#define WINDOW 0
#define MAX_ROWS 64
#include "emulator/run.h"
