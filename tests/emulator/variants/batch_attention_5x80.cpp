#include "emulator/variant.h"
#define VARIANT batch_attention_5x80
// Heads of a sheet and a quarter; five share keys.
#define STAGE_BATCH_ATTENTION 1
#define N_HEADS 5
#define N_KV_HEADS 1
#define HEAD_DIM 80
#define WINDOW 0
#define MAX_ROWS 12
#define BLOCKS 7
#define RING_BYTES 61440
#define GROUPS_MAX 3
#include "emulator/run_attention.h"
