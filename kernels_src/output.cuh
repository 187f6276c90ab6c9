// The products that end in the residual stream: attention output and down.
//
//     x[row] += W in[row] + b
// RAW: x[row] = W in[row] + b; x is then another buffer, for post_norm.
// FROM_GLU: `in` is what glu.cuh left, divided by GLU_DIVISOR, which is multiplied back (exactly).
//
// Operations: MATMUL, ADD. Grid and order of sums: product.cuh, with either body; a unit is a band. Defines:
// STAGE_OUTPUT, N_ROWS, N_COLS, FORMAT_0, the body's; RAW, FROM_GLU.
#ifndef N_ROWS
#error "N_ROWS"
#endif

struct OutputBands {
    const u8 *weight;
    DEVICE u32 format(u32, u32) const {
        return 0;
    }
    DEVICE const u8 *tiles(u32 unit, u32) const {
        return band_tiles<FORMAT_0>(weight, unit);
    }
    DEVICE const float *factors(u32 unit, u32) const {
        return band_factors<FORMAT_0>(weight, N_ROWS, unit);
    }
};

// With few rows, what is added to the warp's first unit is loaded before its product: a load takes as long as
// a small product.
#ifdef PRODUCT_FEW
enum : u32 { AHEAD_ROWS = CEIL_DIV(FINISH_ROWS, 2) };
#else
enum : u32 { AHEAD_ROWS = 1 };
#endif

struct OutputState {
    OutputBands bands;
    Product product;
    u32 ahead;                        // the unit that is known before; UINT32_MAX for none
    float bias, residual[AHEAD_ROWS]; // of the rows that this warp finishes
};

// Of row lane % 16 of the unit's band.
DEVICE float output_bias(const ProductArgs &a, u32 unit) {
    u32 col = unit * BAND_ROWS + lane_index() % BAND_ROWS;
    return a.bias[0] != 0 && col < N_ROWS ? a.bias[0][col] : 0.0f;
}

DEVICE void output_prepare(const ProductArgs &a, u32 block, u8 *shared, OutputState *s) {
    s->bands = {a.weight[0]};
    product_prepare(a, block, shared, s->bands, &s->product);
    s->ahead = product_first_unit(s->product);
    s->bias = s->ahead < UNITS ? output_bias(a, s->ahead) : 0.0f;
}

#ifdef PRODUCT_MANY
// All loads come before the first store.
DEVICE void output_finish(const ProductArgs &a, u32 unit, u32 first_row, u32 n_rows, const float *sums) {
    u32 r = lane_index() % BAND_ROWS, col = unit * BAND_ROWS + r, first = lane_index() / BAND_ROWS;
    if (col >= N_ROWS) return;
    float *out = a.out + (u64)first_row * N_ROWS + col, before[PRODUCT_FINISH_ROWS / 2];
    float bias = output_bias(a, unit);
#pragma unroll
    for (u32 i = 0; i < PRODUCT_FINISH_ROWS / 2; i++) {
        before[i] = 0;
#ifndef RAW
        u32 row = i * 2 + first;
        if (row < n_rows) before[i] = load_shared_data(out + (u64)row * N_ROWS);
#endif
    }
#pragma unroll
    for (u32 i = 0; i < PRODUCT_FINISH_ROWS / 2; i++) {
        u32 row = i * 2 + first;
        if (row >= n_rows) break;
        float v = sums[row * SUM_STRIDE + r];
#ifdef FROM_GLU
        v *= GLU_DIVISOR;
#endif
        v += bias;
#ifndef RAW
        v += before[i];
#endif
        out[(u64)row * N_ROWS] = v;
    }
}

DEVICE void output_run(const ProductArgs &a, u32 block, u8 *shared, OutputState *s) {
    product_run(a, block, shared, s->bands, &s->product,
                [&](u32 unit, u32 first_row, u32 n_rows, const float *sums) {
                    output_finish(a, unit, first_row, n_rows, sums);
                });
}
#else
DEVICE void output_run(const ProductArgs &a, u32 block, u8 *shared, OutputState *s) {
#pragma unroll
    for (u32 i = 0; i < AHEAD_ROWS; i++) {
        s->residual[i] = 0;
#ifndef RAW
        u32 col = s->ahead * BAND_ROWS + lane_index() % BAND_ROWS;
        u32 row = product_first_row(s->product) + i * 2 + lane_index() / BAND_ROWS;
        if (s->ahead < UNITS && col < N_ROWS && row < MAX_ROWS)
            s->residual[i] = load_shared_data(a.out + (u64)row * N_ROWS + col);
#endif
    }
    product_run(a, block, shared, s->bands, &s->product,
                [&](u32 unit, u32 first_row, u32 n_rows, const float *sums) {
                    u32 r = lane_index() % BAND_ROWS, col = unit * BAND_ROWS + r;
                    if (col >= N_ROWS) return;
                    float bias = unit == s->ahead ? s->bias : output_bias(a, unit);
                    float *out = a.out + (u64)first_row * N_ROWS + col;
#pragma unroll
                    for (u32 i = 0; i < AHEAD_ROWS; i++) {
                        u32 row = i * 2 + lane_index() / BAND_ROWS;
                        if (row >= n_rows) break;
                        float v = sums[row * SUM_STRIDE + r];
#ifdef FROM_GLU
                        v *= GLU_DIVISOR;
#endif
                        v += bias;
#ifndef RAW
                        if (unit == s->ahead) v += s->residual[i];
                        else v += load_shared_data(out + (u64)row * N_ROWS);
#endif
                        out[(u64)row * N_ROWS] = v;
                    }
                });
}
#endif

EXPORTED StageInfo output_info = PRODUCT_INFO(PRODUCT_SHARED_BYTES);

PRODUCT_KERNEL output(ProductArgs a) {
    OutputState s;
    stage_launch_next();
    output_prepare(a, block_index(), shared_memory(), &s);
    stage_wait();
    output_run(a, block_index(), shared_memory(), &s);
}
