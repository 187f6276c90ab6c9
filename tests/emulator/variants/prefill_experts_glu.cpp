#include "emulator/variant.h"
#define VARIANT prefill_experts_glu
// GPT-OSS's activation.
#define STAGE_PREFILL_EXPERTS_GLU 1
#define D_MODEL 160
#define D_FF 96
#define HAS_BIAS 1
#define ACTIVATION ACTIVATION_SWIGLU_CLAMPED
#define FORMAT_0 FORMAT_Q8_0
#define EXPERT_TILES 16
#define MAX_ROWS 512
#define TILE_TOKENS 64
#define WARPS 4
#define RING_BYTES 32768
#include "emulator/run.h"
