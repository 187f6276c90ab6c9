#include "emulator/variant.h"
#define VARIANT prefill_output_iq4_nl
// IQ4_NL; rows of 1184 columns.
#define STAGE_PREFILL_OUTPUT 1
#define N_ROWS 72
#define N_COLS 1184
#define FORMAT_0 FORMAT_IQ4_NL
#define MAX_ROWS 128
#define TILE_TOKENS 64
#define WARPS 4
#define RING_BYTES 49152
#include "emulator/run.h"
