#include "emulator/variant.h"
#define VARIANT batch_attention_7x64
// Seven heads share keys.
#define STAGE_BATCH_ATTENTION 1
#define N_HEADS 14
#define N_KV_HEADS 2
#define HEAD_DIM 64
#define WINDOW 0
#define MAX_ROWS 12
#define BLOCKS 7
#define RING_BYTES 49152
#define GROUPS_MAX 3
#include "emulator/run_attention.h"
