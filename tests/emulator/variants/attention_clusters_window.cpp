#include "emulator/variant.h"
#define VARIANT attention_clusters_window
// A sliding window, sinks, and capped scores.
#define STAGE_BATCH_ATTENTION 1
#define CLUSTERS 1
#define N_HEADS 4
#define N_KV_HEADS 2
#define HEAD_DIM 48
#define WINDOW 150
#define SOFT_CAP 1.5f
#define HAS_SINKS 1
#define MAX_ROWS 8
#define BLOCKS 32
#define RING_BYTES 24576
#define GROUPS_MAX 2
#include "emulator/run_attention.h"
