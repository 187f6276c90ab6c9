#include "emulator/variant.h"
#define VARIANT logprobs_small
// Blocks of 470 and 471 logits, more than a block has threads.
#define STAGE_SAMPLE_LOGPROBS 1
#define N_VOCAB 1411
#define LOGPROBS_BLOCKS 3
#define WARPS 4
#include "emulator/run.h"
