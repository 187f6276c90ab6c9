#define VARIANT mla_fold_4_wide
#define STAGE_MLA_FOLD 1
#include "mla_rows_4_wide.cpp"
