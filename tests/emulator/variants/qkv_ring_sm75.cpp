#define SM_ARCH 75
#include "qkv_ring.cpp"
