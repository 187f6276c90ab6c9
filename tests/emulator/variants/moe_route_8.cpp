#include "emulator/variant.h"
#define VARIANT moe_route_8
#define STAGE_ROUTE_ROWS 1
#define D_MODEL 288
#define N_EXPERTS 5
#define N_USED 2
#define NORM_EPS 1e-5f
#define MAX_ROWS 8
#define ROUTE_ROWS 4
#define ROUTE_GROUP 1
#define ROUTE_SPREAD 10
#include "emulator/run_experts.h"
