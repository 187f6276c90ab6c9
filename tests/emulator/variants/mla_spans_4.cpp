#include "emulator/variant.h"
#ifndef VARIANT
#define VARIANT mla_spans_4
#endif
#define MLA_STRETCHES 8
#define N_HEADS 4
#define HEAD_DIM 288
#define D_MODEL 256
#define MAX_ROWS 48
#define TILE_TOKENS 32
#define BLOCKS 2
#include "emulator/run_mla.h"
