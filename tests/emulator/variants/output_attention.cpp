#include "emulator/variant.h"
#define VARIANT output_attention
// The splits of attention put together; more warps than rows.
#define STAGE_OUTPUT 1
#define FROM_ATTENTION 1
#define N_HEADS 7
#define HEAD_DIM 32
#define SPLITS_MAX 4
#define SPLIT_PAGES_MIN 2
#define WINDOW 0
#define N_ROWS 40
#define N_COLS 224
#define FORMAT_0 FORMAT_Q5_0
#define BLOCKS 7
#define WARPS 8
#define RING_BYTES 16384
#include "emulator/run.h"
