// Prefill: where a value of an activation buffer is (layout.h), and what each product's stage multiplies: the
// columns of its matrices, how many units of 16 rows (prefill_matmul.cuh).
//
// Defines: MAX_ROWS (of a step: a multiple of the tokens of every product's tile); for a product, one of
// STAGE_PREFILL_QKV, STAGE_PREFILL_OUTPUT, STAGE_PREFILL_GLU, STAGE_PREFILL_EXPERTS_GLU,
// STAGE_PREFILL_EXPERTS_DOWN.
#ifndef MAX_ROWS
#error "MAX_ROWS"
#endif

#if defined(STAGE_PREFILL_QKV)
#define N_COLS D_MODEL
#define UNITS ((N_HEADS + 2 * N_KV_HEADS) * HEAD_DIM / 16)
#elif defined(STAGE_PREFILL_OUTPUT) || defined(STAGE_PREFILL_EXPERTS_DOWN) // N_COLS is given
#define UNITS CEIL_DIV(N_ROWS, 16)
#elif defined(STAGE_PREFILL_GLU) || defined(STAGE_PREFILL_EXPERTS_GLU)
#define N_COLS D_MODEL
#ifdef UNGATED
#define UNITS (ROUND_UP(D_FF, PREFILL_COLS) / 16)
#else
#define UNITS (ROUND_UP(D_FF, PREFILL_COLS) / 8)
#endif
#endif

#define UNIT_ROWS 2 // that a lane has of a unit, for format_runs.cuh: g and g + 8

// GLU outputs are stored divided by this, since a few of some models' are beyond f16's 65,504; exact, for it
// is a power of two.
#define PREFILL_GLU_DIVISOR 16.0f

// Index of a value in halves. The values of columns col and col + 2 (col % 4 < 2) are neighbours, the first
// one even.
DEVICE u32 activation_at(u32 row, u32 col) {
    u32 place = col / 4 % 4 * 32 + col / 16 % 2 * 16 + col % 2 * 8 + col / 32 % 4 * 2 + col / 2 % 2;
    u32 sheet = col / PREFILL_COLS * 2 + place / 64, unit = (place / 8 % 8) ^ (row % 8);
    return (sheet * MAX_ROWS + row) * 64 + unit * 8 + place % 8;
}

// Two neighbours at once: columns col and col + 2.
DEVICE void activation_store(f16 *out, u32 row, u32 col, float first, float second) {
    *(u32 *)(out + activation_at(row, col)) = pack_f16(first, second);
}

// Of two values a lane holds for tokens t and t + 1, and its partner in `mask` the same for another column:
// the lower lane gets both columns of t, the upper one both of t + 1.
struct ColumnPair {
    float first, second; // of the lower lane's column, of the upper lane's
};
DEVICE ColumnPair exchange_columns(float of_token, float of_next, u32 mask) {
    bool upper = lane_index() & mask;
    float other = shuffle_xor(upper ? of_token : of_next, mask);
    return upper ? ColumnPair{other, of_next} : ColumnPair{of_token, other};
}
