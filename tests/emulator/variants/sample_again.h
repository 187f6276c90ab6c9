// Logits that shared memory does not hold, in two runs, the second of which is empty in one of the blocks
// (4,095 and 4,096 logits).
#define STAGE_SAMPLE 1
#define N_VOCAB 8191
#define HEAD_BLOCKS 5
#define SAMPLE_BLOCKS 2
#define LOGITS_HELD 0
#define WARPS 4
