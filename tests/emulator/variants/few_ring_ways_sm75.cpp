#define SM_ARCH 75
#include "few_ring_ways.cpp"
