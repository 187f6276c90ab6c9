#include "emulator/variant.h"
#define VARIANT many_head
// A vocabulary that is no whole band, capped logits.
#define STAGE_HEAD 1
#define D_MODEL 512
#define N_VOCAB 420
#define FORMAT_0 FORMAT_Q6_K
#define SOFT_CAP 30.0f
#define MAX_ROWS 32
#define TILE_ROWS 32
#define WARPS 8
#define RING_BYTES 81920
#define BLOCKS 3
#include "emulator/run_many.h"
