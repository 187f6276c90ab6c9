// What each stage multiplies: the columns of its rows, how many units of how many rows (matvec.cuh). Comes
// before activations.cuh; a program defines one of STAGE_QKV, STAGE_OUTPUT, STAGE_GLU,
// STAGE_EXPERTS_GLU, STAGE_EXPERTS_DOWN, STAGE_HEAD.
#if defined(STAGE_QKV)
#define N_COLS D_MODEL
#define ROWS 2
#define UNITS ((N_HEADS + 2 * N_KV_HEADS) * HEAD_DIM / 2)
#elif defined(STAGE_OUTPUT) // N_COLS is given
#ifndef ROWS
#define ROWS 1
#endif
#define UNITS CEIL_DIV(N_ROWS, ROWS)
#elif defined(STAGE_GLU)
#define N_COLS D_MODEL
#ifdef UNGATED
#define ROWS 1
#else
#define ROWS 2
#endif
#define UNITS D_FF
#elif defined(STAGE_EXPERTS_GLU)
#define N_COLS D_MODEL
#define ROWS 2
#define UNITS (N_USED * D_FF)
#elif defined(STAGE_EXPERTS_DOWN)
#define N_COLS (N_USED * D_FF)
#define SEGMENTS N_USED
#ifndef ROWS
#define ROWS 1
#endif
#define UNITS CEIL_DIV(D_MODEL, ROWS)
#elif defined(STAGE_HEAD)
#define N_COLS D_MODEL
#ifndef ROWS
#define ROWS 4
#endif
#define UNITS CEIL_DIV(N_VOCAB, ROWS)
#else
#error "STAGE_QKV, STAGE_OUTPUT, STAGE_GLU, STAGE_EXPERTS_GLU, STAGE_EXPERTS_DOWN or STAGE_HEAD"
#endif

#define UNIT_ROWS ROWS // format_runs.cuh

// Two, so that the next stage's block fits beside this one's and fetches its weights meanwhile.
#ifndef BLOCKS_PER_SM
#define BLOCKS_PER_SM 2
#endif
