#define SM_ARCH 80
#include "few_one_ways.cpp"
