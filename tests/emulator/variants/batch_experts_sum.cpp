#include "emulator/variant.h"
#define VARIANT batch_experts_sum
#define STAGE_EXPERTS_SUM 1
#define D_MODEL 160
#define N_USED 3
#define MAX_ROWS 64
#define SUM_BLOCKS 5
#include "emulator/run_experts.h"
