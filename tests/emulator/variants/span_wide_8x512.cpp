#define VARIANT span_wide_8x512
#define STAGE_SPAN_WIDE 1
#define SPAN_BLOCKS 2
#include "span_attention_8x512.cpp"
