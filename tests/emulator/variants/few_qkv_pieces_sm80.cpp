#define SM_ARCH 80
#include "few_qkv_pieces.cpp"
