#define SM_ARCH 75
#include "experts_down_slices.cpp"
