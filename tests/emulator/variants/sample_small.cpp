#include "emulator/variant.h"
#define VARIANT sample_small
// Three blocks that meet; more logits than threads.
#define STAGE_SAMPLE 1
#define N_VOCAB 1411
#define HEAD_BLOCKS 5
#define SAMPLE_BLOCKS 3
#define LOGITS_HELD 1
#define WARPS 4
#include "emulator/run.h"
