// What the experts' products of a batch multiply; comes before product.cuh. A program defines
// STAGE_EXPERTS_GLU or STAGE_EXPERTS_DOWN.
//
// Few rows (MAX_ROWS <= 8): the experts that a row chose are the batch's "touched" ones, in the order of
// their indices (one row: of its choices). Units are the touched experts' bands, one expert after the other;
// how many there are is known when the choice is. All rows are multiplied with each, and what rows that did
// not choose it would get is dropped: eight rows cost what one does.
//
// SHARED_ROWS (one row): a shared expert goes with them, whose matrices lie apart and have so many rows. Its
// bands are the last units. Gate and up: any number of rows, and the units are known early (product_few.cuh);
// down: D_MODEL, and its columns are D_FF.
//
// Many rows (EXPERTS_MANY): slots (group_experts.cuh), multiplied by product_many.cuh; units are all
// experts' bands, one expert after the other. Where experts have few rows each, TILE_ROWS is 8 and
// product_few.cuh multiplies (EXPERTS_EIGHTS): units are the bands of each tile's expert, one tile after the
// other, and each tile has a buffer of activations of its own, of MAX_ROWS 8.
//
// Defines: D_MODEL, D_FF (of an expert), N_EXPERTS, N_USED, MAX_ROWS (of a buffer of activations; TILE_ROWS
// over 8: the slots); EXPERTS_MANY with TILE_ROWS, and EXPERT_TILES (of the table) where that is 8;
// SHARED_ROWS.
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
#define TOUCHED_UNITS (TOUCHED_MAX * EXPERT_UNITS)
#ifdef SHARED_ROWS
#define ROW_EXPERTS (N_USED + 1) // of a row, the shared one behind the chosen ones
#define UNITS (TOUCHED_UNITS + CEIL_DIV(SHARED_ROWS, 16))
#ifdef STAGE_EXPERTS_GLU
#define EARLY_UNITS CEIL_DIV(SHARED_ROWS, 16)
#endif
#else
#define ROW_EXPERTS N_USED
#define UNITS TOUCHED_UNITS
#endif
#if MAX_ROWS > 1
#define UNITS_AT_RUN_TIME
#endif
#ifdef STAGE_EXPERTS_DOWN // each touched expert's rows are in a buffer of their own
#define INPUT_UNITS EXPERT_UNITS
#endif
#endif
#if defined(SHARED_ROWS) && (MAX_ROWS != 1 || defined(EXPERTS_MANY) || defined(HAS_BIAS))
#error "SHARED_ROWS: one row, no biases"
#endif

// Few rows: whether a unit is the shared expert's, and which band of its expert's matrices it is.
DEVICE bool unit_is_shared(u32 unit) {
#ifdef SHARED_ROWS
    return unit >= TOUCHED_UNITS;
#else
    (void)unit;
    return false;
#endif
}
DEVICE u32 unit_band(u32 unit) {
#ifdef SHARED_ROWS
    if (unit_is_shared(unit)) return unit - TOUCHED_UNITS;
#endif
    return unit % EXPERT_UNITS;
}
