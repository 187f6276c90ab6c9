// The products that end in the residual stream: attention output and down.
//
//     x[row] += W in[row] + b                          ADD_SCALE: times this, before it is added
// HAS_SHARE: x[row] += share[row] (W in[row]) + b, of a shared expert
// RAW: x[row] = W in[row] + b; x is then another buffer, for post_norm.
// FROM_GLU: `in` is what glu.cuh left, divided by GLU_DIVISOR, which is multiplied back (exactly).
//
// Operations: MATMUL, ADD. Grid and order of sums: product.cuh, with either body; a unit is a band. Defines:
// STAGE_OUTPUT, N_ROWS, N_COLS, FORMAT_0, the body's; RAW, FROM_GLU, ADD_SCALE, HAS_SHARE.
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

#ifndef PRODUCT_MANY
// What is added to the warp's first unit is loaded before its product: a load takes as long as a small
// product.
enum : u32 { AHEAD_ROWS = CEIL_DIV(FINISH_ROWS, 2) };
#endif

struct OutputState {
    OutputBands bands;
    Product product;
#ifndef PRODUCT_MANY
    u32 ahead;                        // the unit that is known before; UINT32_MAX for none
    float bias, residual[AHEAD_ROWS]; // of the rows that this warp finishes
    float share[AHEAD_ROWS];          // HAS_SHARE: likewise
#endif
};

#ifdef PRODUCT_MANY
DEVICE void output_prepare(const ProductArgs &a, u32 block, u8 *shared, OutputState *s) {
    s->bands = {a.weight[0]};
    product_prepare(a, block, shared, s->bands, &s->product);
}

// product_many.cuh: a lane has one weight row and four of each 8 rows.
struct OutputFinish {
    const ProductArgs &a;

    struct Ahead {
        float bias, before[2][4];
#ifdef HAS_SHARE
        float share; // of row lane % 16: a register is all that each 16 rows take here
#endif
    };

    static DEVICE u32 col_of(u32 unit) {
        return unit * BAND_ROWS + lane_weight_row();
    }
    // One address for all that the lane has, and constants beyond it.
    DEVICE float *at(u64 first_row, u32 row, u32 col) const {
        return a.out + (lane_first_row() * N_ROWS + col) + (first_row + row) * N_ROWS;
    }
    static DEVICE bool is_there(u32 n_rows, u32 row, u32 col) {
        return row + lane_first_row() < n_rows && (N_ROWS % BAND_ROWS == 0 || col < N_ROWS);
    }

    // The stage before wrote more than the L2 has, so that the residual stream is not there any more: all
    // blocks would wait for memory at once. A sector of 32 bytes a lane.
    DEVICE void foresee(u32 unit, u32 n_units, u32 first_row, u32 n_rows) const {
#ifndef RAW
        const u32 sector = 8, lanes = 16; // floats; of a row
        u32 first = unit * BAND_ROWS, end = MIN(first + n_units * BAND_ROWS, (u32)N_ROWS);
        for (u32 row = lane_index() / lanes; row < n_rows; row += WARP / lanes) {
            for (u32 col = first + lane_index() % lanes * sector; col < end; col += lanes * sector) {
                prefetch_l2(a.out + (u64)(first_row + row) * N_ROWS + col);
            }
        }
#endif
        (void)unit, (void)n_units, (void)first_row, (void)n_rows;
    }

    DEVICE Ahead ahead(u32 unit, u64 first_row, u32 n_rows) const {
        u32 col = col_of(unit);
        Ahead v = {};
        if (a.bias[0] != 0 && col < N_ROWS) v.bias = a.bias[0][col];
#ifdef HAS_SHARE
        u32 share_row = lane_index() % 16;
        if (share_row < n_rows) v.share = load_shared_data(a.share + first_row + share_row);
#endif
#ifndef RAW
#pragma unroll
        for (u32 i = 0; i < 8; i++) {
            u32 row = i / 4 * 8 + i % 4;
            if (is_there(n_rows, row, col))
                v.before[i / 4][i % 4] = load_shared_data(at(first_row, row, col));
        }
#endif
        return v;
    }

    template <u32 groups>
    DEVICE void lanes(u32 unit, u64 first_row, u32 n_rows, const LaneSums<groups> &sums,
                      const Ahead &ahead) const {
        u32 col = col_of(unit);
#pragma unroll
        for (u32 i = 0; i < groups; i++) {
            float of_rows[4];
            sums_of_weight_row(sums.of[0][i], of_rows);
#pragma unroll
            for (u32 r = 0; r < 4; r++) {
                float v = of_rows[r];
#ifdef HAS_SHARE
                v *= shuffle(ahead.share, i * 8 + lane_first_row() + r);
#endif
#ifdef FROM_GLU
                v *= GLU_DIVISOR;
#endif
                v += ahead.bias;
#ifdef ADD_SCALE
                v *= ADD_SCALE;
#endif
#ifndef RAW
                v += ahead.before[i][r];
#endif
                if (is_there(n_rows, i * 8 + r, col)) *at(first_row, i * 8 + r, col) = v;
            }
        }
    }
};

DEVICE void output_run(const ProductArgs &a, u32 block, u8 *shared, OutputState *s) {
    product_run(a, block, shared, s->bands, &s->product, OutputFinish{a});
}
#else
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

DEVICE void output_run(const ProductArgs &a, u32 block, u8 *shared, OutputState *s) {
#pragma unroll
    for (u32 i = 0; i < AHEAD_ROWS; i++) {
        s->residual[i] = s->share[i] = 0;
        u32 row = product_first_row(s->product) + i * 2 + lane_index() / BAND_ROWS;
        (void)row;
#ifdef HAS_SHARE
        if (row < MAX_ROWS) s->share[i] = load_shared_data(a.share + row);
#endif
#ifndef RAW
        u32 col = s->ahead * BAND_ROWS + lane_index() % BAND_ROWS;
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
#ifdef HAS_SHARE
                        v *= s->share[i];
#endif
#ifdef FROM_GLU
                        v *= GLU_DIVISOR;
#endif
                        v += bias;
#ifdef ADD_SCALE
                        v *= ADD_SCALE;
#endif
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
    output_prepare(a, block_index(), product_memory(), &s);
    stage_wait();
    output_run(a, block_index(), product_memory(), &s);
}
