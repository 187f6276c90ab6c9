#define VARIANT mla_fold_20_chunks
#define STAGE_MLA_FOLD 1
#include "mla_rows_20_chunks.cpp"
