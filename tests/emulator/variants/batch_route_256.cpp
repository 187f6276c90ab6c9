#include "emulator/variant.h"
#define VARIANT batch_route_256
// A prompt's rows: with all of them one block has all experts, with fewer several share them.
#define STAGE_ROUTE_ROWS 1
#define ROUTE_CHOOSES 1
#define D_MODEL 1120
#define N_EXPERTS 9
#define N_USED 3
#define NORM_EPS 1e-5f
#define MAX_ROWS 256
#define ROUTE_ROWS 8
#define ROUTE_GROUP 2
#define ROUTE_SPREAD 32
#define ROUTE_SLOTS 3
#include "emulator/run_experts.h"
