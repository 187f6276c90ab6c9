#include "emulator/variant.h"
#define VARIANT batch_attention_20x16_wide
// Many rows on few blocks.
#define STAGE_BATCH_ATTENTION 1
#define N_HEADS 20
#define N_KV_HEADS 1
#define HEAD_DIM 16
#define WINDOW 0
#define MAX_ROWS 128
#define BLOCKS 3
#define RING_BYTES 8192
#define GROUPS_MAX 3
#include "emulator/run_attention.h"
