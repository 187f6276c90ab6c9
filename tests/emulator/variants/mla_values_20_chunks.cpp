#define VARIANT mla_values_20_chunks
#define STAGE_MLA_VALUES 1
#include "mla_rows_20_chunks.cpp"
