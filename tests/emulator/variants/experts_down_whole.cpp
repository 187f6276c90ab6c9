#include "emulator/variant.h"
#define VARIANT experts_down_whole
// A segment a piece; more experts than lanes.
#define STAGE_EXPERTS_DOWN 1
#define D_MODEL 100
#define D_FF 224
#define N_EXPERTS 40
#define N_USED 3
#define FORMAT_0 FORMAT_Q4_0
#define BLOCKS 4
#define WARPS 4
#define RING_BYTES 16384
#include "emulator/run.h"
