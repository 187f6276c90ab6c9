#define VARIANT mla_values_20
#define STAGE_MLA_VALUES 1
#include "mla_rows_20.cpp"
