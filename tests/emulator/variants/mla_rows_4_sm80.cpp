#define SM_ARCH 80
#include "mla_rows_4.cpp"
