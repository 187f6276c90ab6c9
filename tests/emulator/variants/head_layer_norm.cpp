#include "emulator/variant.h"
#define VARIANT head_layer_norm
// Layer norm before the head; float weights.
#define STAGE_HEAD 1
#define LAYER_NORM 1
#define D_MODEL 192
#define N_VOCAB 77
#define NORM_EPS 1e-5f
#define FORMAT_0 FORMAT_F16
#define BLOCKS 2
#define WARPS 4
#define RING_BYTES 16384
#include "emulator/run.h"
