#include "emulator/variant.h"
#define VARIANT batch_route_64
// Two blocks or more a run of rows; with all rows each has four experts at once, then four again. The last
// block chooses.
#define STAGE_ROUTE_ROWS 1
#define ROUTE_CHOOSES 1
#define D_MODEL 1120
#define N_EXPERTS 9
#define N_USED 3
#define NORM_EPS 1e-5f
#define MAX_ROWS 64
#define ROUTE_ROWS 2
#define ROUTE_GROUP 4
#define ROUTE_SPREAD 64
#include "emulator/run_experts.h"
