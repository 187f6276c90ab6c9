#define VARIANT mla_wgmma_20_sheets
#define STAGE_MLA_WGMMA 1
// Two rows of heads at a time.
#define TILE_TOKENS 40
#include "mla_spans_20_sheets.cpp"
