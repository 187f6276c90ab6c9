#include "emulator/variant.h"
#define VARIANT batch_attention_1x96
// Heads of sheets of 32 dims; none share keys.
#define STAGE_BATCH_ATTENTION 1
#define N_HEADS 3
#define N_KV_HEADS 3
#define HEAD_DIM 96
#define WINDOW 0
#define MAX_ROWS 12
#define BLOCKS 7
#define RING_BYTES 73728
#define GROUPS_MAX 3
#include "emulator/run_attention.h"
