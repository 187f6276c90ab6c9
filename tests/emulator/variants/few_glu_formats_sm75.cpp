#define SM_ARCH 75
#include "few_glu_formats.cpp"
