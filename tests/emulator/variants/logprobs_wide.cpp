#include "emulator/variant.h"
#define VARIANT logprobs_wide
// As many blocks as a model of a large vocabulary has.
#define STAGE_SAMPLE_LOGPROBS 1
#define N_VOCAB 9973
#define LOGPROBS_BLOCKS 67
#define WARPS 16
#include "emulator/run.h"
