#include "emulator/variant.h"
#define VARIANT prefill_experts_sum
// Three of them a row.
#define STAGE_PREFILL_EXPERTS_SUM 1
#define D_MODEL 160
#define N_USED 3
#define MAX_ROWS 128
#include "emulator/run.h"
