#include "emulator/variant.h"
#define VARIANT few_head
// A vocabulary that is no whole band, capped logits.
#define STAGE_HEAD 1
#define D_MODEL 512
#define N_VOCAB 420
#define FORMAT_0 FORMAT_Q6_K
#define SOFT_CAP 30.0f
#define MAX_ROWS 8
#define BLOCKS 3
#define WARPS 4
#define RING_BYTES 32768
#include "emulator/run_few.h"
