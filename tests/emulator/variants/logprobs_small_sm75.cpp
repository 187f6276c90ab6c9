#define SM_ARCH 75
#include "logprobs_small.cpp"
