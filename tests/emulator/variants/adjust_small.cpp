#include "emulator/variant.h"
#define VARIANT adjust_small
// Blocks of 282 and 283 logits, more than a block has threads.
#define STAGE_SAMPLE_ADJUST 1
#define N_VOCAB 1411
#define HEAD_BLOCKS 5
#define WARPS 4
#include "emulator/run.h"
