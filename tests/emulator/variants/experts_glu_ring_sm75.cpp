#define SM_ARCH 75
#include "experts_glu_ring.cpp"
