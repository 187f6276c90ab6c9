#define VARIANT span_attention_1x96_q8
// A cache of 8 bits.
#define KV_Q8 1
#include "span_attention_1x96.cpp"
