#include "emulator/variant.h"
#define VARIANT batch_attention_2x256
// Large heads.
#define STAGE_BATCH_ATTENTION 1
#define N_HEADS 2
#define N_KV_HEADS 1
#define HEAD_DIM 256
#define WINDOW 0
#define MAX_ROWS 12
#define BLOCKS 7
#define RING_BYTES 196608
#define GROUPS_MAX 3
#include "emulator/run_attention.h"
