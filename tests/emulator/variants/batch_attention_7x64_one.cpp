#include "emulator/variant.h"
#define VARIANT batch_attention_7x64_one
// One row; a ring of one tile; more blocks than splits.
#define STAGE_BATCH_ATTENTION 1
#define N_HEADS 14
#define N_KV_HEADS 2
#define HEAD_DIM 64
#define WINDOW 0
#define MAX_ROWS 1
#define BLOCKS 40
#define RING_BYTES 16384
#define GROUPS_MAX 3
#include "emulator/run_attention.h"
