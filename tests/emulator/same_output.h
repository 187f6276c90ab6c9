// The product that several variants spread over blocks, warps and columns, each in another way: their bits
// are compared. Five segments, the last of one tile; bands that are not full.
#pragma once

#define STAGE_OUTPUT 1
#define N_ROWS 150
#define N_COLS 2304
#define FORMAT_0 FORMAT_Q4_K
#define FROM_GLU 1
