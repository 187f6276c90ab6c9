// Queries, keys and values of a batch's rows, as the matrices and their biases give them.
//
//     out[row] = W_q h + b_q, W_k h + b_k, W_v h + b_v, one after the other
//     h = in[row]; NORM_INPUT (product_few.cuh): h = norm(x[row])
//
// Operations: (RMS_NORM or LAYER_NORM,) MATMUL x 3. Grid and order of sums: product.cuh, with either body; a
// unit is a band of W_q, W_k or W_v. Defines: STAGE_QKV, D_MODEL, N_HEADS, N_KV_HEADS, HEAD_DIM, FORMAT_0 …
// FORMAT_2 (of W_q, W_k, W_v), the body's.
#if !defined(D_MODEL) || !defined(N_HEADS) || !defined(N_KV_HEADS) || !defined(HEAD_DIM)
#error "D_MODEL, N_HEADS, N_KV_HEADS, HEAD_DIM"
#endif

enum : u32 {
    Q_ROWS = N_HEADS * HEAD_DIM,
    KV_ROWS = N_KV_HEADS * HEAD_DIM,
    Q_BANDS = CEIL_DIV(Q_ROWS, BAND_ROWS),
    KV_BANDS = CEIL_DIV(KV_ROWS, BAND_ROWS),
};

// Which matrix a unit is of, and which of its bands.
struct QkvBand {
    u32 matrix, band;
};
DEVICE QkvBand qkv_band(u32 unit) {
    if (unit < Q_BANDS) return {0, unit};
    if (unit < Q_BANDS + KV_BANDS) return {1, unit - Q_BANDS};
    return {2, unit - Q_BANDS - KV_BANDS};
}

struct QkvBands {
    const u8 *weight[3];
    DEVICE u32 format(u32 unit, u32) const {
        return qkv_band(unit).matrix;
    }
    DEVICE const u8 *tiles(u32 unit, u32) const {
        QkvBand b = qkv_band(unit);
        if (b.matrix == 0) return band_tiles<FORMAT_0>(weight[0], b.band);
        if (b.matrix == 1) return band_tiles<FORMAT_1>(weight[1], b.band);
        return band_tiles<FORMAT_2>(weight[2], b.band);
    }
    DEVICE const float *factors(u32 unit, u32) const {
        QkvBand b = qkv_band(unit);
        if (b.matrix == 0) return band_factors<FORMAT_0>(weight[0], Q_ROWS, b.band);
        if (b.matrix == 1) return band_factors<FORMAT_1>(weight[1], KV_ROWS, b.band);
        return band_factors<FORMAT_2>(weight[2], KV_ROWS, b.band);
    }
};

#ifdef PRODUCT_MANY
struct QkvState {
    QkvBands bands;
    Product product;
};

DEVICE void qkv_prepare(const ProductArgs &a, u32 block, u8 *shared, QkvState *s) {
    s->bands = {{a.weight[0], a.weight[1], a.weight[2]}};
    product_prepare(a, block, shared, s->bands, &s->product);
}

// product_many.cuh: a lane has weight rows g and g + 8 of rows 8 i + 2 c and 8 i + 2 c + 1.
struct QkvFinish {
    const ProductArgs &a;

    struct Ahead {
        float bias[2];
    };

    DEVICE Ahead ahead(u32 unit, u32, u32) const {
        QkvBand b = qkv_band(unit);
        const float *bias = b.matrix == 0 ? a.bias[0] : b.matrix == 1 ? a.bias[1] : a.bias[2];
        u32 col = b.band * BAND_ROWS + lane_index() / 4, n = b.matrix == 0 ? Q_ROWS : KV_ROWS;
        Ahead v = {};
        if (bias != 0 && col < n) v.bias[0] = bias[col];
        if (bias != 0 && col + 8 < n) v.bias[1] = bias[col + 8];
        return v;
    }

    template <u32 groups>
    DEVICE void lanes(u32 unit, u32 first_row, u32 n_rows, const LaneSums<groups> &sums,
                      const Ahead &ahead) const {
        QkvBand b = qkv_band(unit);
        u32 col = b.band * BAND_ROWS + lane_index() / 4, n = b.matrix == 0 ? Q_ROWS : KV_ROWS;
        u32 before = b.matrix == 0 ? 0 : b.matrix == 1 ? Q_ROWS : Q_ROWS + KV_ROWS;
#pragma unroll
        for (u32 i = 0; i < groups * 4; i++) {
            u32 row = i / 4 * 8 + lane_index() % 4 * 2 + i % 2, c = col + i % 4 / 2 * 8;
            if (row >= n_rows || c >= n) continue;
            a.out[(u64)(first_row + row) * (Q_ROWS + 2 * KV_ROWS) + before + c] =
                sums.of[0][i / 4][i % 4] + ahead.bias[i % 4 / 2];
        }
    }
};

DEVICE void qkv_run(const ProductArgs &a, u32 block, u8 *shared, QkvState *s) {
    product_run(a, block, shared, s->bands, &s->product, QkvFinish{a});
}
#else
struct QkvState {
    QkvBands bands;
    Product product;
    u32 ahead; // the unit whose bias is known before the input
    float bias;
};

// Row lane % 16 of the unit's band: its bias.
DEVICE float qkv_bias(const ProductArgs &a, u32 unit) {
    QkvBand b = qkv_band(unit);
    u32 row = b.band * BAND_ROWS + lane_index() % BAND_ROWS;
    const float *bias = b.matrix == 0 ? a.bias[0] : b.matrix == 1 ? a.bias[1] : a.bias[2];
    return bias != 0 && row < (b.matrix == 0 ? Q_ROWS : KV_ROWS) ? bias[row] : 0.0f;
}

DEVICE void qkv_prepare(const ProductArgs &a, u32 block, u8 *shared, QkvState *s) {
    s->bands = {{a.weight[0], a.weight[1], a.weight[2]}};
    product_prepare(a, block, shared, s->bands, &s->product);
    s->ahead = product_first_unit(s->product);
    s->bias = s->ahead < UNITS ? qkv_bias(a, s->ahead) : 0.0f;
}

DEVICE void qkv_run(const ProductArgs &a, u32 block, u8 *shared, QkvState *s) {
    product_run(a, block, shared, s->bands, &s->product,
                [&](u32 unit, u32 first_row, u32 n_rows, const float *sums) {
                    QkvBand b = qkv_band(unit);
                    u32 r = lane_index() % BAND_ROWS, col = b.band * BAND_ROWS + r;
                    if (col >= (b.matrix == 0 ? Q_ROWS : KV_ROWS)) return;
                    float bias = unit == s->ahead ? s->bias : qkv_bias(a, unit);
                    col += b.matrix == 0 ? 0 : b.matrix == 1 ? Q_ROWS : Q_ROWS + KV_ROWS;
                    float *out = a.out + (u64)first_row * (Q_ROWS + 2 * KV_ROWS) + col;
                    for (u32 row = lane_index() / BAND_ROWS; row < n_rows; row += 2) {
                        out[(u64)row * (Q_ROWS + 2 * KV_ROWS)] = sums[row * SUM_STRIDE + r] + bias;
                    }
                });
}
#endif

EXPORTED StageInfo qkv_info = PRODUCT_INFO(PRODUCT_SHARED_BYTES);

PRODUCT_KERNEL qkv(ProductArgs a) {
    QkvState s;
    stage_launch_next();
    qkv_prepare(a, block_index(), product_memory(), &s);
    stage_wait();
    qkv_run(a, block_index(), product_memory(), &s);
}
