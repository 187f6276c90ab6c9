#define SM_ARCH 75
#include "glu_formats.cpp"
