// Entries are in the cache, and rows have queries alone.
#define VARIANT attention_shared_2x256
#define SHARED_KV 1
#include "attention_clusters_2x256_parts.cpp"
