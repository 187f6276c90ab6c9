#include "emulator/variant.h"
#define VARIANT adjust_tiny
// Fewer logits than lanes, and blocks of one or two.
#define STAGE_SAMPLE_ADJUST 1
#define N_VOCAB 7
#define HEAD_BLOCKS 5
#define WARPS 1
#include "emulator/run.h"
