#define VARIANT mla_fold_4
#define STAGE_MLA_FOLD 1
#include "mla_rows_4.cpp"
