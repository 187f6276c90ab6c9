#include "emulator/variant.h"
#define VARIANT prefill_gather
// A step and a quarter of columns.
#define STAGE_PREFILL_GATHER 1
#define D_MODEL 160
#define N_USED 3
#define CHUNK_ROWS 128
#define MAX_ROWS 512
#include "emulator/run.h"
