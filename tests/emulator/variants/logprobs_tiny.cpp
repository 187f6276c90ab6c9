#include "emulator/variant.h"
#define VARIANT logprobs_tiny
// Blocks of three or four logits, fewer than are asked for.
#define STAGE_SAMPLE_LOGPROBS 1
#define N_VOCAB 31
#define LOGPROBS_BLOCKS 9
#define WARPS 1
#include "emulator/run.h"
