// 0 for what a variant's stage does not have.
#ifndef D_MODEL
#define D_MODEL 0
#endif
#ifndef N_HEADS
#define N_HEADS 0
#endif
#ifndef N_KV_HEADS
#define N_KV_HEADS 0
#endif
#ifndef HEAD_DIM
#define HEAD_DIM 0
#endif
#ifndef ROPE_DIMS
#define ROPE_DIMS 0
#endif
#ifndef D_FF
#define D_FF 0
#endif
#ifndef N_VOCAB
#define N_VOCAB 0
#endif
#ifndef N_ROWS
#define N_ROWS 0
#endif
#ifndef N_COLS
#define N_COLS 0
#endif
#ifndef WINDOW
#define WINDOW 0
#endif
#ifndef BLOCKS
#define BLOCKS 0
#endif
#ifndef SPAN_QUERIES
#define SPAN_QUERIES 0
#endif
#ifndef TEAMS
#define TEAMS 0
#endif
#ifndef ROPE_HALVES
#define ROPE_HALVES 0
#endif
#ifndef ACTIVATION
#define ACTIVATION 0
#endif
#ifndef N_EXPERTS
#define N_EXPERTS 0
#endif
#ifndef N_USED
#define N_USED 0
#endif
#ifndef EXPERT_TILES
#define EXPERT_TILES 0
#endif
#ifndef TILE_TOKENS
#define TILE_TOKENS 0
#endif
#ifndef KV_Q8
#define KV_Q8 0
#endif
#ifndef HAS_SINKS
#define HAS_SINKS 0
#endif
#ifndef EMBED_FORMAT
#define EMBED_FORMAT 0
#endif
#ifndef FORMAT_0
#define FORMAT_0 0
#endif
#ifndef FORMAT_1
#define FORMAT_1 0
#endif
#ifndef FORMAT_2
#define FORMAT_2 0
#endif
#ifndef ROPE_SCALE
#define ROPE_SCALE 0
#endif
#ifndef NORM_EPS
#define NORM_EPS 0
#endif
#ifndef SCORE_SCALE
#define SCORE_SCALE 0
#endif
#ifndef EMBED_SCALE
#define EMBED_SCALE 0
#endif
#ifndef MAX_ROWS
#define MAX_ROWS 0
#endif
#ifndef SOFT_CAP
#define SOFT_CAP 0
#endif
#ifndef LAYER_NORM
#define LAYER_NORM 0
#endif
#ifndef LEARNED_POSITIONS
#define LEARNED_POSITIONS 0
#endif
#ifndef UNGATED
#define UNGATED 0
#endif
#ifndef HAS_BIAS
#define HAS_BIAS 0
#endif
#ifndef VALUE_PARTS
#define VALUE_PARTS 1
#endif
#ifndef GROUPS_MAX
#define GROUPS_MAX 0
#endif
