#define SM_ARCH 80
#include "experts_glu_ring.cpp"
