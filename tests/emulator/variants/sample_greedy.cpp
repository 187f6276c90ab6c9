#include "emulator/variant.h"
#define VARIANT sample_greedy
// The best of some blocks' best.
#define STAGE_SAMPLE_GREEDY 1
#define N_VOCAB 1411
#define HEAD_BLOCKS 5
#include "emulator/run.h"
