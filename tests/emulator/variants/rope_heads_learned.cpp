#include "emulator/variant.h"
#define VARIANT rope_heads_learned
// Nothing is turned.
#define STAGE_ROPE_HEADS 1
#define N_HEADS 2
#define N_KV_HEADS 1
#define HEAD_DIM 32
#define ROPE_DIMS 0
#define ROPE_HALVES 0
#define SCORE_SCALE 0.0884f
#define MAX_ROWS 130
#undef ROW_BLOCKS_MAX
#define ROW_BLOCKS_MAX 11u
#include "emulator/run_attention.h"
