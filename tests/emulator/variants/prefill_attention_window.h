// A sliding window, and sinks.
#define STAGE_PREFILL_ATTENTION 1
#define N_HEADS 4
#define N_KV_HEADS 2
#define HEAD_DIM 48
#define WINDOW 37
#define HAS_SINKS 1
#define MAX_ROWS 128
