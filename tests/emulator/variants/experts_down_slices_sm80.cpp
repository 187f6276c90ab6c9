#define SM_ARCH 80
#include "experts_down_slices.cpp"
