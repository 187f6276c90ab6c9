#define VARIANT span_attention_2x256_q8
// A cache of 8 bits.
#define KV_Q8 1
#include "span_attention_2x256.cpp"
