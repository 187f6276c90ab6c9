#define SM_ARCH 80
#include "few_ring_ways.cpp"
