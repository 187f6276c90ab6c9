#define VARIANT attention_shared_7x64_q8
#define SHARED_KV 1
#define RING_BYTES 52224
#include "batch_attention_7x64_q8.cpp"
