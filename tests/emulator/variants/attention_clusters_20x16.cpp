#include "emulator/variant.h"
#define VARIANT attention_clusters_20x16
// More heads share keys than a product has rows; one block of a cluster folds.
#define STAGE_BATCH_ATTENTION 1
#define CLUSTERS 1
#define N_HEADS 20
#define N_KV_HEADS 1
#define HEAD_DIM 16
#define WINDOW 0
#define MAX_ROWS 8
#define BLOCKS 48
#define RING_BYTES 8192
#define GROUPS_MAX 4
#include "emulator/run_attention.h"
