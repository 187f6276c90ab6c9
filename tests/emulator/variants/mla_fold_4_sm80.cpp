#define SM_ARCH 80
#include "mla_fold_4.cpp"
