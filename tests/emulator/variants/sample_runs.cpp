#include "emulator/variant.h"
#define VARIANT sample_runs
// Logits that shared memory holds, in three runs.
#define STAGE_SAMPLE 1
#define N_VOCAB 8999
#define HEAD_BLOCKS 5
#define SAMPLE_BLOCKS 1
#define LOGITS_HELD 1
#define WARPS 8
#include "emulator/run.h"
