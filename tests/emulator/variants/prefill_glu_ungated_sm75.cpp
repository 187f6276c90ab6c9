#define SM_ARCH 75
#include "prefill_glu_ungated.cpp"
