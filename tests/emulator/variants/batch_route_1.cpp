#include "emulator/variant.h"
#define VARIANT batch_route_1
// A row alone: a block an expert.
#define STAGE_ROUTE_ROWS 1
#define D_MODEL 1120
#define N_EXPERTS 9
#define N_USED 3
#define NORM_EPS 1e-5f
#define MAX_ROWS 1
#define ROUTE_ROWS 1
#define ROUTE_GROUP 1
#define ROUTE_SPREAD 9
#include "emulator/run_experts.h"
