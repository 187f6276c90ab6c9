#define SM_ARCH 80
#include "mla_values_4.cpp"
