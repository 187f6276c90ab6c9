#include "emulator/variant.h"
#define VARIANT prefill_glu_formats
// Gate and up in different formats.
#define STAGE_PREFILL_GLU 1
#define ROW_FORMATS 1
#define D_MODEL 288
#define D_FF 200
#define ACTIVATION ACTIVATION_SILU
#define FORMAT_0 FORMAT_Q5_0
#define FORMAT_1 FORMAT_F16
#define MAX_ROWS 128
#define TILE_TOKENS 64
#define WARPS 4
#define RING_BYTES 32768
#include "emulator/run.h"
