// Several products of one input: queries, keys and values of a batch's rows, and gates of heads; or what a
// layer with a state makes of its input. As the matrices and their biases give them.
//
//     out[row][AT_i …] = W_i h + b_i                   of up to four matrices
//     h = in[row]; NORM_INPUT (product_few.cuh): h = norm(x[row])
//
// Operations: (RMS_NORM or LAYER_NORM,) MATMUL x 3 or 4. Grid and order of sums: product.cuh, with either
// body; a unit is a band of one of the matrices. Defines: STAGE_QKV, D_MODEL, ROWS_0 … ROWS_2 (of each
// matrix), FORMAT_0 … FORMAT_2, the body's; ROWS_3 with SAME_FORMAT (of four matrices this one has the format
// of the one before it: 1 … 3); AT_1 … AT_3 and RAW_COLS (values of a row of `out`) where they do not lie one
// after the other.
#if !defined(D_MODEL) || !defined(ROWS_0) || !defined(ROWS_1) || !defined(ROWS_2) || \
    (ROWS_3 > 0 && !defined(SAME_FORMAT))
#error "D_MODEL, ROWS_0, ROWS_1, ROWS_2, SAME_FORMAT"
#endif
#ifndef RAW_COLS
#define AT_1 ROWS_0
#define AT_2 (ROWS_0 + ROWS_1)
#define AT_3 (ROWS_0 + ROWS_1 + ROWS_2)
#define RAW_COLS (ROWS_0 + ROWS_1 + ROWS_2 + ROWS_3)
#endif

enum : u32 {
    END_0 = CEIL_DIV(ROWS_0, BAND_ROWS), // of units
    END_1 = END_0 + CEIL_DIV(ROWS_1, BAND_ROWS),
    END_2 = END_1 + CEIL_DIV(ROWS_2, BAND_ROWS),
    WHOLE_BANDS = (ROWS_0 | ROWS_1 | ROWS_2 | ROWS_3) % BAND_ROWS == 0,
};

// Which matrix a unit is of, and which of its bands.
struct QkvBand {
    u32 matrix, band;
};
DEVICE QkvBand qkv_band(u32 unit) {
    if (unit < END_0) return {0, unit};
    if (unit < END_1) return {1, unit - END_0};
    if (ROWS_3 == 0 || unit < END_2) return {2, unit - END_1};
    return {3, unit - END_2};
}
DEVICE u32 matrix_rows(u32 matrix) {
    if (matrix == 0) return ROWS_0;
    if (matrix == 1) return ROWS_1;
    return ROWS_3 == 0 || matrix == 2 ? ROWS_2 : ROWS_3;
}
// Where a matrix's products are in a row of `out`.
DEVICE u32 matrix_at(u32 matrix) {
    if (matrix == 0) return 0;
    if (matrix == 1) return AT_1;
    return ROWS_3 == 0 || matrix == 2 ? AT_2 : AT_3;
}
DEVICE constexpr u32 matrix_format(u32 matrix) {
    return matrix - (ROWS_3 > 0 && matrix >= SAME_FORMAT ? 1 : 0);
}
// Of the biases, or of the matrices.
template <class T> DEVICE T of_matrix(const T of[4], u32 matrix) {
    if (matrix == 0) return of[0];
    if (matrix == 1) return of[1];
    return ROWS_3 == 0 || matrix == 2 ? of[2] : of[3];
}

#ifdef OWN_PIECES
DEVICE constexpr u32 matrix_units(u32 matrix) {
    u32 rows[4] = {ROWS_0, ROWS_1, ROWS_2, ROWS_3};
    return CEIL_DIV(rows[matrix], BAND_ROWS);
}
DEVICE constexpr u32 matrix_step_bytes(u32 matrix) {
    u32 of[3] = {step_bytes(FORMAT_0), step_bytes(FORMAT_1), step_bytes(FORMAT_2)};
    return of[MIN(matrix_format(matrix), 2u)]; // of a fourth matrix that is not there, too
}
// Bytes of a step of all units before this one.
DEVICE constexpr u32 qkv_bytes_before(u32 unit) {
    u32 bytes = 0;
#pragma unroll
    for (u32 m = 0; m < 4; m++) {
        u32 n = MIN(unit, matrix_units(m));
        bytes += n * matrix_step_bytes(m), unit -= n;
    }
    return bytes;
}
// The first unit that has at least so many bytes before it.
DEVICE constexpr u32 qkv_unit_at(u32 bytes) {
    u32 unit = 0;
#pragma unroll
    for (u32 m = 0; m < 4; m++) {
        u32 each = matrix_step_bytes(m), n = MIN(CEIL_DIV(bytes, each), matrix_units(m));
        unit += n, bytes -= MIN(bytes, n * each);
    }
    return unit;
}
#endif

struct QkvBands {
    const u8 *weight[4];
#ifdef OWN_PIECES
    DEVICE constexpr u32 bytes_before(u32 unit) const {
        return qkv_bytes_before(unit);
    }
    DEVICE constexpr u32 unit_at(u32 bytes) const {
        return qkv_unit_at(bytes);
    }
#endif
    DEVICE u32 format(u32 unit, u32) const {
        return matrix_format(qkv_band(unit).matrix);
    }
    DEVICE const u8 *tiles(u32 unit, u32) const {
        QkvBand b = qkv_band(unit);
        const u8 *matrix = of_matrix(weight, b.matrix);
        u32 format = matrix_format(b.matrix);
        if (format == 0) return band_tiles<FORMAT_0>(matrix, b.band);
        if (format == 1) return band_tiles<FORMAT_1>(matrix, b.band);
        return band_tiles<FORMAT_2>(matrix, b.band);
    }
    DEVICE const float *factors(u32 unit, u32) const {
        QkvBand b = qkv_band(unit);
        const u8 *matrix = of_matrix(weight, b.matrix);
        u32 format = matrix_format(b.matrix), n = matrix_rows(b.matrix);
        if (format == 0) return band_factors<FORMAT_0>(matrix, n, b.band);
        if (format == 1) return band_factors<FORMAT_1>(matrix, n, b.band);
        return band_factors<FORMAT_2>(matrix, n, b.band);
    }
};
#ifdef OWN_PIECES
DEVICE constexpr bool own_pieces_fit() {
    QkvBands bands = {};
    for (u32 block = 0; block < BLOCKS; block++) {
        u32 first = block_first_unit(block, bands), end = block_first_unit(block + 1, bands);
        if (end - first > GROUP_UNITS || bands.bytes_before(end) - bands.bytes_before(first) > OWN_PIECES)
            return false;
    }
    return true;
}
static_assert(own_pieces_fit(), "OWN_PIECES is the most that a block's bands have of a step");
#endif
DEVICE QkvBands qkv_bands(const ProductArgs &a) {
    return {{a.weight[0], a.weight[1], a.weight[2], a.weight[3]}};
}

#ifdef PRODUCT_MANY
struct QkvState {
    QkvBands bands;
    Product product;
};

DEVICE void qkv_prepare(const ProductArgs &a, u32 block, u8 *shared, QkvState *s) {
    s->bands = qkv_bands(a);
    product_prepare(a, block, shared, s->bands, &s->product);
}

// product_many.cuh: a lane has one weight row and four of each 8 rows.
struct QkvFinish {
    const ProductArgs &a;

    struct Ahead {
        float bias;
    };

    DEVICE void foresee(u32, u32, u32, u32) const {
    }

    DEVICE Ahead ahead(u32 unit, u64, u32) const {
        QkvBand b = qkv_band(unit);
        const float *bias = of_matrix(a.bias, b.matrix);
        u32 col = b.band * BAND_ROWS + lane_weight_row();
        return {bias != 0 && col < matrix_rows(b.matrix) ? bias[col] : 0.0f};
    }

    template <u32 groups>
    DEVICE void lanes(u32 unit, u64 first_row, u32 n_rows, const LaneSums<groups> &sums,
                      const Ahead &ahead) const {
        QkvBand b = qkv_band(unit);
        u32 col = b.band * BAND_ROWS + lane_weight_row();
        bool is_there = WHOLE_BANDS || col < matrix_rows(b.matrix);
        // One address for all that the lane has, and constants beyond it.
        float *out = a.out + (lane_first_row() * RAW_COLS + matrix_at(b.matrix) + col) + first_row * RAW_COLS;
#pragma unroll
        for (u32 i = 0; i < groups; i++) {
            float v[4];
            sums_of_weight_row(sums.of[0][i], v);
#pragma unroll
            for (u32 r = 0; r < 4; r++) {
                if (is_there && i * 8 + lane_first_row() + r < n_rows)
                    out[(u64)(i * 8 + r) * RAW_COLS] = v[r] + ahead.bias;
            }
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
    const float *bias = of_matrix(a.bias, b.matrix);
    return bias != 0 && row < matrix_rows(b.matrix) ? bias[row] : 0.0f;
}

DEVICE void qkv_prepare(const ProductArgs &a, u32 block, u8 *shared, QkvState *s) {
    s->bands = qkv_bands(a);
    product_prepare(a, block, shared, s->bands, &s->product);
    s->ahead = product_first_unit(s->product);
    s->bias = s->ahead < UNITS ? qkv_bias(a, s->ahead) : 0.0f;
}

DEVICE void qkv_run(const ProductArgs &a, u32 block, u8 *shared, QkvState *s) {
    product_run(a, block, shared, s->bands, &s->product,
                [&](u32 unit, u32 first_row, u32 n_rows, const float *sums) {
                    QkvBand b = qkv_band(unit);
                    u32 r = lane_index() % BAND_ROWS, col = b.band * BAND_ROWS + r;
                    if (col >= matrix_rows(b.matrix)) return;
                    float bias = unit == s->ahead ? s->bias : qkv_bias(a, unit);
                    float *out = a.out + (u64)first_row * RAW_COLS + matrix_at(b.matrix) + col;
                    for (u32 row = lane_index() / BAND_ROWS; row < n_rows; row += 2) {
                        out[(u64)row * RAW_COLS] = sums[row * SUM_STRIDE + r] + bias;
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
