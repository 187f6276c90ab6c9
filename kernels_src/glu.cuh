// Gate and up of a batch's rows, and their activation.
//
//     out_activations[row] = act(W_gate h + b_gate) * (W_up h + b_up) / GLU_DIVISOR
// UNGATED: act(W_up h + b_up) / GLU_DIVISOR; NOT_DIVIDED: act(W_up h + b_up)
// TIMES_STRIDE (with UNGATED): act(GLU_DIVISOR W_up h) * times[row] / GLU_DIVISOR: `in` is divided, too
//     h = in[row]; NORM_INPUT (product_few.cuh): h = norm(x[row])
//
// Operations: (RMS_NORM or LAYER_NORM,) MATMUL x 2, GLU; UNGATED: MATMUL, ACTIVATION. Grid and order of sums:
// product.cuh, with either body; a unit is a band of W_gate and the same one of W_up. Defines: STAGE_GLU,
// D_MODEL, D_FF, activate.cuh's, FORMAT_0 (of W_gate; UNGATED: of W_up), FORMAT_1 (of W_up), the body's;
// UNGATED, NOT_DIVIDED; HAS_BIAS where a matrix has one; TIMES_STRIDE, of the rows of `times`.
#if !defined(D_FF) || D_FF % 2
#error "D_FF, even"
#endif

#ifdef NOT_DIVIDED
#define UNGATED_DIVISOR 1.0f
#else
#define UNGATED_DIVISOR GLU_DIVISOR
#endif

struct GluBands {
    const u8 *weight[2];
    DEVICE u32 format(u32, u32 b) const {
        return b;
    }
    DEVICE const u8 *tiles(u32 unit, u32 b) const {
        if (b == 0) return band_tiles<FORMAT_0>(weight[0], unit);
        return band_tiles<FORMAT_1>(weight[1], unit);
    }
    DEVICE const float *factors(u32 unit, u32 b) const {
        if (b == 0) return band_factors<FORMAT_0>(weight[0], D_FF, unit);
        return band_factors<FORMAT_1>(weight[1], D_FF, unit);
    }
};

struct GluState {
    GluBands bands;
    Product product;
};

DEVICE void glu_prepare(const ProductArgs &a, u32 block, u8 *shared, GluState *s) {
    s->bands = {{a.weight[0], a.weight[1]}};
    product_prepare(a, block, shared, s->bands, &s->product);
}

// The activation of one row of the weights, of the products of its gate and its up. row: of the batch.
DEVICE float glu_value(const ProductArgs &a, u64 row, u32 col, float gate, float up) {
    float v[2] = {gate, up};
#ifdef HAS_BIAS
#pragma unroll
    for (u32 b = 0; b < UNIT_BANDS; b++) {
        if (a.bias[b] != 0) v[b] += a.bias[b][col];
    }
#endif
    (void)a, (void)row, (void)col, (void)up;
#ifdef TIMES_STRIDE
    float times = load_shared_data(a.times + row * TIMES_STRIDE + col);
    return activate(v[0] * GLU_DIVISOR) * times * (1 / GLU_DIVISOR);
#elif defined(UNGATED)
    return activate(v[0]) * (1 / UNGATED_DIVISOR);
#else
    return gated(v[0], v[1]) * (1 / GLU_DIVISOR);
#endif
}

#ifdef PRODUCT_MANY
struct GluFinish {
    const ProductArgs &a;

    struct Ahead {};

    DEVICE void foresee(u32, u32, u32, u32) const {
    }

    DEVICE Ahead ahead(u32, u64, u32) const {
        return {};
    }

    template <u32 groups>
    DEVICE void lanes(u32 unit, u64 first_row, u32 n_rows, const LaneSums<groups> &sums,
                      const Ahead &) const {
        u32 first_col = unit * BAND_ROWS + lane_index() / 4, c = lane_index() % 4;
        store_lane_activations<groups, D_FF>(
            a.out_activations, unit, first_row, n_rows, [&](u32 up, u32 i, u32 k) {
                u32 col = MIN(first_col + up * 8, D_FF - 1u);
                return glu_value(a, first_row + i * 8 + c * 2 + k, col, sums.of[0][i][up * 2 + k],
                                 sums.of[UNIT_BANDS - 1][i][up * 2 + k]);
            });
    }
};

DEVICE void glu_run(const ProductArgs &a, u32 block, u8 *shared, GluState *s) {
    product_run(a, block, shared, s->bands, &s->product, GluFinish{a});
}
#else
// A lane has two neighbours of a row, so that it stores 4 bytes.
DEVICE void glu_run(const ProductArgs &a, u32 block, u8 *shared, GluState *s) {
    product_run(a, block, shared, s->bands, &s->product,
                [&](u32 unit, u32 first_row, u32 n_rows, const float *sums) {
                    u32 r = lane_index() % 8 * 2, col = unit * BAND_ROWS + r;
                    if (col >= D_FF) return;
                    for (u32 row = lane_index() / 8; row < n_rows; row += 4) {
                        const float *of_row = sums + row * SUM_STRIDE + r,
                                    *up = of_row + (UNIT_BANDS - 1) * BAND_ROWS;
                        float first = glu_value(a, first_row + row, col, of_row[0], up[0]);
                        float second = glu_value(a, first_row + row, col + 1, of_row[1], up[1]);
                        activation_store_2(a.out_activations, first_row + row, col, first, second);
                    }
                });
}
#endif

EXPORTED StageInfo glu_info = PRODUCT_INFO(PRODUCT_SHARED_BYTES);

PRODUCT_KERNEL glu(ProductArgs a) {
    GluState s;
    stage_launch_next();
    glu_prepare(a, block_index(), product_memory(), &s);
    stage_wait();
    glu_run(a, block_index(), product_memory(), &s);
}
