// What the experts' products of a batch multiply; comes before product.cuh. A program defines
// STAGE_EXPERTS_GLU or STAGE_EXPERTS_DOWN.
//
// Few rows (MAX_ROWS <= 8): the experts that a row chose are the batch's "touched" ones, in the order of
// their indices (one row: of its choices). Units are the touched experts' bands, one expert after the other;
// how many there are is known when the choice is. All rows are multiplied with each, and what rows that did
// not choose it would get is dropped: eight rows cost what one does.
//
// Many rows (EXPERTS_MANY): slots (group_experts.cuh), multiplied by product_many.cuh; units are all
// experts' bands, one expert after the other. Where experts have few rows each, TILE_ROWS is 8 and
// product_few.cuh multiplies (EXPERTS_EIGHTS): units are the bands of each tile's expert, one tile after the
// other, and each tile has a buffer of activations of its own, of MAX_ROWS 8.
//
// Defines: D_MODEL, D_FF (of an expert), N_EXPERTS, N_USED, MAX_ROWS (of a buffer of activations; TILE_ROWS
// over 8: the slots); EXPERTS_MANY with TILE_ROWS, and EXPERT_TILES (of the table) where that is 8.
#if !defined(D_MODEL) || !defined(D_FF) || !defined(N_EXPERTS) || !defined(N_USED) || !defined(MAX_ROWS)
#error "D_MODEL, D_FF, N_EXPERTS, N_USED, MAX_ROWS"
#endif

#if defined(STAGE_EXPERTS_GLU) // a band of W_gate and the same one of W_up
#define N_COLS D_MODEL
#define EXPERT_ROWS D_FF
#ifdef UNGATED // a band of W_up alone
#define UNIT_BANDS 1
#else
#define UNIT_BANDS 2
#endif
#elif defined(STAGE_EXPERTS_DOWN)
#define N_COLS D_FF
#define EXPERT_ROWS D_MODEL
#define UNIT_BANDS 1
#else
#error "STAGE_EXPERTS_GLU or STAGE_EXPERTS_DOWN"
#endif
#define EXPERT_UNITS CEIL_DIV(EXPERT_ROWS, 16)

#if defined(EXPERTS_MANY) && TILE_ROWS == 8
#define EXPERTS_EIGHTS
#define UNITS (EXPERT_TILES * EXPERT_UNITS)
#define UNITS_AT_RUN_TIME
#define INPUT_UNITS EXPERT_UNITS
#elif defined(EXPERTS_MANY)
#define UNITS (N_EXPERTS * EXPERT_UNITS)
#define TABLE_UNITS EXPERT_UNITS
#else
#define TOUCHED_MAX MIN(MAX_ROWS *N_USED, N_EXPERTS)
#define UNITS (TOUCHED_MAX * EXPERT_UNITS)
#if MAX_ROWS > 1
#define UNITS_AT_RUN_TIME
#endif
#ifdef STAGE_EXPERTS_DOWN // each touched expert's rows are in a buffer of their own
#define INPUT_UNITS EXPERT_UNITS
#endif
#endif
