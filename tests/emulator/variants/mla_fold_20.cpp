#define VARIANT mla_fold_20
#define STAGE_MLA_FOLD 1
#include "mla_rows_20.cpp"
