#include "emulator/variant.h"
#define VARIANT output_iq4_nl
// Every format: a full tile and a part of one, rows in slices through a ring.
#define STAGE_OUTPUT 1
#define N_ROWS 37
#define N_COLS 1184
#define FORMAT_0 FORMAT_IQ4_NL
#define BLOCKS 3
#define WARPS 2
#define RING_BYTES 12400
#include "emulator/run.h"
