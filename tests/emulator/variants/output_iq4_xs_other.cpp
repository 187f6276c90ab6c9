#include "emulator/variant.h"
#define VARIANT output_iq4_xs_other
// output_iq4_xs as on another GPU: all weights wait in the ring, unpacked where the format can be.
#define STAGE_OUTPUT 1
#define N_ROWS 37
#define N_COLS 1280
#define FORMAT_0 FORMAT_IQ4_XS
#define BLOCKS 5
#define WARPS 4
#define RING_BYTES 98304
#include "emulator/run.h"
