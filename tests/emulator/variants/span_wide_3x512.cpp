#define VARIANT span_wide_3x512
#define STAGE_SPAN_WIDE 1
#define SPAN_BLOCKS 2
#include "span_attention_3x512.cpp"
