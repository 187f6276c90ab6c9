#include "emulator/variant.h"
#define VARIANT logprobs_few
// Fewer logits in all than are asked for.
#define STAGE_SAMPLE_LOGPROBS 1
#define N_VOCAB 13
#define LOGPROBS_BLOCKS 2
#define WARPS 2
#include "emulator/run.h"
