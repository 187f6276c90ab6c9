#include "emulator/variant.h"
#define VARIANT head_small
// Rows that do not divide by four, more units than lanes; capped logits.
#define STAGE_HEAD 1
#define D_MODEL 256
#define N_VOCAB 411
#define NORM_EPS 1e-6f
#define SOFT_CAP 2.5f
#define FORMAT_0 FORMAT_Q6_K
#define BLOCKS 2
#define WARPS 1
#define RING_BYTES 8192
#include "emulator/run.h"
