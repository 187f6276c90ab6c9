#include "emulator/variant.h"
#define VARIANT attention_clusters_2x256
// Each block folds 32 dims.
#define STAGE_BATCH_ATTENTION 1
#define CLUSTERS 1
#define N_HEADS 2
#define N_KV_HEADS 1
#define HEAD_DIM 256
#define WINDOW 0
#define MAX_ROWS 1
#define BLOCKS 16
#define RING_BYTES 65536
#define GROUPS_MAX 3
#include "emulator/run_attention.h"
