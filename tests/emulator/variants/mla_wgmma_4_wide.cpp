#define VARIANT mla_wgmma_4_wide
#define STAGE_MLA_WGMMA 1
#include "mla_spans_4_wide.cpp"
