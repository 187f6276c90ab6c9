#define VARIANT span_wgmma_1x96_q8
// A cache of 8 bits.
#define KV_Q8 1
#include "span_wgmma_1x96.cpp"
