#include "emulator/variant.h"
#define VARIANT moe_sum_64
#define STAGE_EXPERTS_SUM 1
#define D_MODEL 288
#define N_EXPERTS 5
#define N_USED 2
#define MAX_ROWS 64
#define SUM_BLOCKS 5
#include "emulator/run_experts.h"
