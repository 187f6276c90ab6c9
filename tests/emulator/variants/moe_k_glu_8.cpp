#include "emulator/variant.h"
#define VARIANT moe_k_glu_8
#define STAGE_EXPERTS_GLU 1
#define ACTIVATION ACTIVATION_SILU
#define FORMAT_0 FORMAT_IQ2_XXS
#define D_MODEL 512
#define D_FF 256
#define N_EXPERTS 34
#define N_USED 3
#define MAX_ROWS 8
#define BLOCKS 7
#define WARPS 8
#define RING_BYTES 49152
#include "emulator/run_experts.h"
