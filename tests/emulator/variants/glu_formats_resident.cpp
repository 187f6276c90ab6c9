#include "emulator/variant.h"
#define VARIANT glu_formats_resident
// Gate and up in different formats, all there before the input.
#define STAGE_GLU 1
#define ROW_FORMATS 1
#define D_MODEL 224
#define D_FF 76
#define NORM_EPS 1e-6f
#define ACTIVATION ACTIVATION_GELU_TANH
#define FORMAT_0 FORMAT_Q8_0
#define FORMAT_1 FORMAT_Q5_0
#define BLOCKS 3
#define WARPS 8
#define RING_BYTES 65536
#include "emulator/run.h"
