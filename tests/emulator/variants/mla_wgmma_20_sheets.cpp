#define VARIANT mla_wgmma_20_sheets
#define STAGE_MLA_WGMMA 1
// Two rows of heads at a time, in clusters of two blocks.
#define TILE_TOKENS 40
#define MLA_CLUSTER 2
#define MLA_STRETCHES 12
#define BLOCKS 4
#include "mla_spans_20_sheets.cpp"
