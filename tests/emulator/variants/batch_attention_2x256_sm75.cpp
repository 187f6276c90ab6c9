#define SM_ARCH 75
#include "emulator/variant.h"
#define VARIANT batch_attention_2x256
// Keys and values take turns in shared memory.
#define STAGE_BATCH_ATTENTION 1
#define N_HEADS 2
#define N_KV_HEADS 1
#define HEAD_DIM 256
#define WINDOW 0
#define MAX_ROWS 12
#define BLOCKS 7
#define RING_BYTES 49152
#define GROUPS_MAX 3
#include "emulator/run_attention.h"
