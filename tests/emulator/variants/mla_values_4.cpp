#define VARIANT mla_values_4
#define STAGE_MLA_VALUES 1
#include "mla_rows_4.cpp"
