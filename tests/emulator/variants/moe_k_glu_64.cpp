#include "emulator/variant.h"
#define VARIANT moe_k_glu_64
#define STAGE_EXPERTS_GLU 1
#define ACTIVATION ACTIVATION_SILU
#define FORMAT_0 FORMAT_IQ2_XXS
#define EXPERTS_MANY 1
#define D_MODEL 512
#define D_FF 256
#define N_EXPERTS 34
#define N_USED 3
#define MAX_ROWS 448
#define EXPERT_SLOTS 448
#define EXPERT_TILES 40
#define TILE_ROWS 32
#define BLOCKS 5
#define WARPS 8
#define RING_BYTES 98304
#include "emulator/run_experts.h"
