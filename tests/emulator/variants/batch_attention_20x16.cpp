#include "emulator/variant.h"
#define VARIANT batch_attention_20x16
// More heads share keys than a product has rows.
#define STAGE_BATCH_ATTENTION 1
#define N_HEADS 20
#define N_KV_HEADS 1
#define HEAD_DIM 16
#define WINDOW 0
#define MAX_ROWS 40
#define BLOCKS 7
#define RING_BYTES 12288
#define GROUPS_MAX 3
#include "emulator/run_attention.h"
