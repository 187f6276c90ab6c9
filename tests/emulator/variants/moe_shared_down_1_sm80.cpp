#define SM_ARCH 80
#include "moe_shared_down_1.cpp"
