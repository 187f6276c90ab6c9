#include "emulator/variant.h"
#define VARIANT attention_clusters_4x128
// Four heads share keys; one row.
#define STAGE_BATCH_ATTENTION 1
#define CLUSTERS 1
#define N_HEADS 8
#define N_KV_HEADS 2
#define HEAD_DIM 128
#define WINDOW 0
#define MAX_ROWS 1
#define BLOCKS 32
#define RING_BYTES 65536
#define GROUPS_MAX 3
#include "emulator/run_attention.h"
