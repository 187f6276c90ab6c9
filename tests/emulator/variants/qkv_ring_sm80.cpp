#define SM_ARCH 80
#include "qkv_ring.cpp"
