#define VARIANT mla_values_4_wide
#define STAGE_MLA_VALUES 1
#include "mla_rows_4_wide.cpp"
