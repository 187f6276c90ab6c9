// What stages of batches share: where a value of an activation buffer is, and the norm of a row.
//
// Activations (f16, inputs of a product): [ceil(K / 128) * 2 sheets of 64 places][MAX_ROWS][64]. Column
// 32 c + 4 t + 2 q + i of 128 is at place 16 t + 8 q + 2 c + i. The 16-byte unit u of row r is at
// u ^ (r % 8). With MAX_ROWS 1, column 32 c + 8 j + i (i < 8) is at place 32 j + 8 c + i of 128: what a lane
// multiplies in two steps lies together. So columns 2 n and 2 n + 1 are neighbours, and a stage stores pairs.
// Columns past K are zero from the start and nobody writes them.
//
// Norms. The order of sums is fixed by the number of columns alone, whoever takes the norm:
//     piece    256 columns of a row, 8 a lane: columns 4 i … 4 i + 3 and 128 + 4 i … of the piece
//     a lane's values in the order of their columns, from v0 on:
//              sum     s = v0; s = s + v1; …
//              squares s = v0 v0; s = fma(v1, v1, s); …
//     then lanes 16 apart, 8, 4, 2, 1; then the pieces in their order
//     factor = 1 / sqrt(fma(squares, 1 / D, eps)); value = (v factor) w, f16
// LAYER_NORM: v is v - mean, mean = sum * (1 / D); value = fma(v factor, w, b); b is 0 where there is none.
// NORM_PLAIN: without w. NORM_NONE: value = v, f16: of a block without a norm before it; COPY_DIVIDED:
// value = v / GLU_DIVISOR.
// Columns past the end count as zeros.
//
// Defines: MAX_ROWS (capacity of an activation buffer); NORM_EPS, LAYER_NORM or NORM_NONE where there are
// norms.

enum : u32 {
    NORM_PIECE = 256,
};

// GLU outputs are stored divided by this, since a few of some models' are beyond f16's 65,504. Exact: it is
// a power of two. The product that reads them multiplies it back.
#define GLU_DIVISOR 16.0f

// ---- activations ----

// Index of a value, in halves, in a buffer for n_rows rows.
DEVICE u32 activation_place(u32 n_rows, u32 row, u32 col) {
    if (n_rows == 1) return col / 128 * 128 + col / 8 % 4 * 32 + col / 32 % 4 * 8 + col % 8;
    u32 place = col / 4 % 8 * 16 + col / 2 % 2 * 8 + col / 32 % 4 * 2 + col % 2;
    u32 sheet = col / ACTIVATION_COLS * 2 + place / 64, unit = (place / 8 % 8) ^ (row % 8);
    return (sheet * n_rows + row) * 64 + unit * 8 + place % 8;
}

#ifdef MAX_ROWS
DEVICE u32 activation_at(u32 row, u32 col) {
    return activation_place(MAX_ROWS, row, col);
}

// Columns col and col + 1; col is even.
DEVICE void activation_store_2(f16 *out, u32 row, u32 col, float first, float second) {
    *(u32 *)(out + activation_at(row, col)) = pack_f16(first, second);
}

// Columns col and col + 1, which an earlier stage wrote; col is even.
DEVICE float2 activation_load_2(const f16 *in, u32 row, u32 col) {
    u32 v = load_shared_data((const u32 *)(in + activation_at(row, col)));
    return {f16_to_f32((f16)v), f16_to_f32((f16)(v >> 16))};
}

// Columns col … col + 3; col is a multiple of 4.
DEVICE void activation_store_4(f16 *out, u32 row, u32 col, float4 v) {
    activation_store_2(out, row, col, v.x, v.y);
    activation_store_2(out, row, col + 2, v.z, v.w);
}

// Columns col … col + 3 of every lane of a warp, where lane l has the columns 4 l … of 128; there: whether
// they are columns at all, of 64 neighbours all or none. Lanes 8 apart exchange half of what they have, so
// that each stores 8 bytes, and a warp's stores fill whole sectors of the L2.
DEVICE void activation_store_lanes(f16 *out, u32 row, u32 col, float4 v, bool there) {
    u32 first = pack_f16(v.x, v.y), second = pack_f16(v.z, v.w), odd = lane_index() / 8 % 2;
    u32 other = shuffle_xor(odd ? first : second, 8);
    uint2 both = odd ? uint2{other, second} : uint2{first, other};
    if (there) *(uint2 *)(out + activation_at(row, col - 30 * odd)) = both;
}
#endif

// ---- norms, piece by piece ----

#ifdef NORM_EPS
// Of a stage with a block a row. Few rows: a piece a warp is soonest. Many: fewer warps, which wait less for
// each other.
#define NORM_STAGE_WARPS(n_cols) MIN(CEIL_DIV(n_cols, (u32)NORM_PIECE *(MAX_ROWS <= 128 ? 1u : 4u)), 16u)

enum : u32 { NORM_OF_MANY = MAX_ROWS > 128 };

// What a lane has of a piece.
struct NormPiece {
    float4 v[2];
};

template <u32 n_cols> DEVICE u32 norm_col(u32 piece, u32 i) {
    static_assert(n_cols % 4 == 0, "rows are read four columns at a time");
    return piece * NORM_PIECE + i * 128 + lane_index() * 4;
}

// What load(from + column) gives; past the end of a row zeros. Of many rows all loads are made, since the
// compiler has no more than seven predicates, and makes some loads of a row only when others have come. (One
// row: q k v of 8B 6.8 us so, not 6.5.)
template <u32 n_cols, class Load> DEVICE NormPiece norm_piece_of(const float *from, u32 piece, Load load) {
    NormPiece p;
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        u32 col = norm_col<n_cols>(piece, i);
        if (NORM_OF_MANY) {
            p.v[i] = load((const float4 *)(from + MIN(col, n_cols - 4)));
            if (col >= n_cols) p.v[i] = {0, 0, 0, 0};
        } else {
            p.v[i] = col < n_cols ? load((const float4 *)(from + col)) : float4{0, 0, 0, 0};
        }
    }
    return p;
}

// Of a row that an earlier stage wrote.
template <u32 n_cols> DEVICE NormPiece norm_load(const float *row, u32 piece) {
    return norm_piece_of<n_cols>(row, piece, [](const float4 *p) { return load_shared_data(p); });
}

// Of a norm's weights or biases.
template <u32 n_cols> DEVICE NormPiece norm_load_weight(const float *w, u32 piece) {
    return norm_piece_of<n_cols>(w, piece, [](const float4 *p) { return *p; });
}

DEVICE float norm_lane_sum(const NormPiece &p) {
    float4 a = p.v[0], b = p.v[1];
    return ((((((a.x + a.y) + a.z) + a.w) + b.x) + b.y) + b.z) + b.w;
}

DEVICE float norm_lane_squares(const NormPiece &p) {
    float4 a = p.v[0], b = p.v[1];
    float s = fma_f32(a.w, a.w, fma_f32(a.z, a.z, fma_f32(a.y, a.y, a.x * a.x)));
    return fma_f32(b.w, b.w, fma_f32(b.z, b.z, fma_f32(b.y, b.y, fma_f32(b.x, b.x, s))));
}

// The piece's sum in all lanes, of what each lane has of it.
DEVICE float norm_of_lanes(float v) {
#pragma unroll
    for (u32 m = 16; m > 0; m /= 2) {
        v += shuffle_xor(v, m);
    }
    return v;
}

// Takes the mean from the columns that there are.
template <u32 n_cols> DEVICE void norm_subtract(NormPiece *p, u32 piece, float mean) {
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        if (norm_col<n_cols>(piece, i) >= n_cols) continue;
        float4 v = p->v[i];
        p->v[i] = {v.x - mean, v.y - mean, v.z - mean, v.w - mean};
    }
}

template <u32 n_cols> DEVICE float norm_mean(float sum) {
    return sum * (1.0f / n_cols);
}

template <u32 n_cols> DEVICE float norm_factor(float squares, float eps = NORM_EPS) {
    return reciprocal_sqrt_fast(fma_f32(squares, 1.0f / n_cols, eps));
}

// What a norm of a block's output makes of four columns of the residual stream.
DEVICE float4 norm_add(float4 to, float4 v, float factor, float4 w) {
    return {fma_f32(v.x * factor, w.x, to.x), fma_f32(v.y * factor, w.y, to.y),
            fma_f32(v.z * factor, w.z, to.z), fma_f32(v.w * factor, w.w, to.w)};
}

// `b` counts with LAYER_NORM alone.
DEVICE float4 norm_value(float4 v, float factor, float4 w, float4 b) {
#ifdef NORM_NONE
    (void)factor, (void)w, (void)b;
#ifdef COPY_DIVIDED
    const float d = 1 / GLU_DIVISOR;
    return {v.x * d, v.y * d, v.z * d, v.w * d};
#else
    return v;
#endif
#elif defined(LAYER_NORM)
    return {fma_f32(v.x * factor, w.x, b.x), fma_f32(v.y * factor, w.y, b.y), fma_f32(v.z * factor, w.z, b.z),
            fma_f32(v.w * factor, w.w, b.w)};
#else
    (void)b;
    return {v.x * factor * w.x, v.y * factor * w.y, v.z * factor * w.z, v.w * factor * w.w};
#endif
}

// ---- the norms of some rows, by several warps ----
//
// A row that its lanes have already: of each turn the warp's piece.
struct NormHeldRow {
    const NormPiece *of_turn;
};

// Each of n_warps warps has whole pieces. With more warps than pieces, groups of warps share the rows. All
// loads of a pass come first, and all its rows go side by side, so that the time hardly depends on them. A
// lane holds `held` values at once, or those of one row where these are more.
template <u32 n_cols, u32 n_rows_max, u32 n_warps, u32 held = 64> struct RowNorms {
    enum : u32 {
        COLS = n_cols,
        PIECES = CEIL_DIV(n_cols, (u32)NORM_PIECE),
        TURNS = CEIL_DIV(PIECES, n_warps),                   // pieces a warp
        GROUPS = MIN(MAX(n_warps / PIECES, 1u), n_rows_max), // of warps
        GROUP_ROWS = CEIL_DIV(n_rows_max, GROUPS),           // row g, g + GROUPS, …
        PASS_ROWS = MIN(MAX(held / 8 / TURNS, 1u), GROUP_ROWS),
        SUM_STRIDE = PIECES | 1, // against bank conflicts
        SUMS = n_rows_max * SUM_STRIDE,
        SHARED_FLOATS = SUMS * 2, // sums, squares
    };

    NormPiece w[TURNS], b[TURNS];

    static DEVICE u32 piece_of(u32 warp, u32 turn) {
        return TURNS == 1 ? warp % PIECES : warp + turn * n_warps;
    }
    static DEVICE u32 group_of(u32 warp) {
        return TURNS == 1 ? warp / PIECES : 0; // GROUPS and more: nothing to do
    }

    // Before stage_wait: norm [n_cols], bias [n_cols] or NULL with LAYER_NORM. `warp` is below n_warps.
    DEVICE void prepare(const float *norm, const float *bias, u32 warp) {
#pragma unroll
        for (u32 t = 0; t < TURNS; t++) {
#if defined(NORM_NONE) || defined(NORM_PLAIN)
            w[t] = {};
            (void)norm;
#else
            w[t] = norm_load_weight<n_cols>(norm, piece_of(warp, t));
#endif
#ifdef LAYER_NORM
            b[t] = {};
            if (bias) b[t] = norm_load_weight<n_cols>(bias, piece_of(warp, t));
#else
            b[t] = {};
            (void)bias;
#endif
        }
    }

    // Each of the pass's rows: its pieces' sums added in order, in all lanes. Lane i adds those of row i.
    static DEVICE void add_pieces(const float *sums, u32 group, u32 first, float total[PASS_ROWS]) {
        u32 row = group + (first + MIN(lane_index(), (u32)PASS_ROWS - 1)) * GROUPS;
        row = MIN(row, n_rows_max - 1);
        float sum = sums[row * SUM_STRIDE];
#pragma unroll
        for (u32 i = 1; i < PIECES; i++) {
            sum += sums[row * SUM_STRIDE + i];
        }
#pragma unroll
        for (u32 r = 0; r < PASS_ROWS; r++) {
            total[r] = PASS_ROWS == 1 ? sum : shuffle(sum, r);
        }
    }

    // The norms of rows 0 … n_rows - 1 of x into the rows first_row … of `out`, whose capacity is MAX_ROWS.
    // x is [n_rows][n_cols], or a function that gives a row's address, or a NormHeldRow. `sums` is
    // [SHARED_FLOATS] of shared memory. All n_warps warps call it with the same n_rows; `meet` is their
    // barrier. It ends without one: the values are there for the others after the next. (NORM_NONE has none.)
    template <class Rows, class Meet>
    DEVICE void run(Rows x, u32 n_rows, f16 *out, u32 first_row, float *sums, u32 warp, Meet meet) const {
        each(x, n_rows, sums, warp, meet, [&](u32 row, u32 turn, u32 i, u32 col, float4 v, float factor) {
            activation_store_4(out, first_row + row, col, norm_value(v, factor, w[turn].v[i], b[turn].v[i]));
        });
    }

    // Calls finish(row, turn, i, col, v, factor) for each four columns instead: v is their values
    // (LAYER_NORM: less the mean), whose weights are w[turn].v[i].
    template <class Rows, class Meet, class Finish>
    DEVICE void each(Rows x, u32 n_rows, float *sums, u32 warp, Meet meet, Finish finish) const {
        each_lane(x, n_rows, sums, warp, meet,
                  [&](u32 row, u32 turn, u32 i, u32 col, float4 v, float factor) {
                      if (col < n_cols) finish(row, turn, i, col, v, factor);
                  });
    }

    // The same by all lanes of a warp, also of those whose columns are past the end.
    template <class Rows, class Meet, class Finish>
    DEVICE void each_lane(Rows x, u32 n_rows, float *sums, u32 warp, Meet meet, Finish finish) const {
        u32 group = group_of(warp);
#pragma unroll
        for (u32 first = 0; first < GROUP_ROWS; first += PASS_ROWS) {
            if (first * GROUPS >= n_rows) break;
            run_pass(x, n_rows, sums, warp, group, first, meet, finish);
        }
    }

  private:
    static DEVICE const float *row_at(const float *x, u32 row) {
        return x + (u64)row * n_cols;
    }
    template <class Rows> static DEVICE const float *row_at(Rows x, u32 row) {
        return x(row);
    }
    template <class Rows> static DEVICE NormPiece piece_at(Rows x, u32 row, u32 warp, u32 turn) {
        return norm_load<n_cols>(row_at(x, row), piece_of(warp, turn));
    }
    static DEVICE NormPiece piece_at(NormHeldRow x, u32, u32, u32 turn) {
        return x.of_turn[turn];
    }

    // Row `r` of the pass, of this warp's group; n_rows and more: none.
    static DEVICE u32 row_of(u32 group, u32 first, u32 r) {
        return group >= GROUPS || first + r >= GROUP_ROWS ? 0xFFFFFFFFu : group + (first + r) * GROUPS;
    }

    // Leaves each piece's sum in shared memory, and returns the rows' sums.
    template <class LaneSum, class Meet>
    static DEVICE void sum_rows(const NormPiece v[PASS_ROWS][TURNS], u32 n_rows, float *sums, u32 warp,
                                u32 group, u32 first, LaneSum lane_sum, Meet meet, float total[PASS_ROWS]) {
        float of_piece[PASS_ROWS][TURNS];
#pragma unroll
        for (u32 r = 0; r < PASS_ROWS; r++) {
#pragma unroll
            for (u32 t = 0; t < TURNS; t++) {
                of_piece[r][t] = norm_of_lanes(lane_sum(v[r][t]));
            }
        }
#pragma unroll
        for (u32 r = 0; r < PASS_ROWS; r++) {
            u32 row = row_of(group, first, r);
#pragma unroll
            for (u32 t = 0; t < TURNS; t++) {
                u32 piece = piece_of(warp, t);
                if (row >= n_rows || piece >= PIECES || lane_index() > 0) continue;
                sums[row * SUM_STRIDE + piece] = of_piece[r][t];
            }
        }
        meet();
        add_pieces(sums, MIN(group, (u32)GROUPS - 1), first, total);
    }

    template <class Rows, class Meet, class Finish>
    DEVICE void run_pass(Rows x, u32 n_rows, float *sums, u32 warp, u32 group, u32 first, Meet meet,
                         Finish finish) const {
        NormPiece v[PASS_ROWS][TURNS];
        float total[PASS_ROWS] = {};
#pragma unroll
        for (u32 r = 0; r < PASS_ROWS; r++) {
            u32 row = row_of(group, first, r);
#pragma unroll
            for (u32 t = 0; t < TURNS; t++) {
                v[r][t] = {};
                if (row < n_rows) v[r][t] = piece_at(x, row, warp, t);
            }
        }
        if (NORM_OF_MANY) warp_sync(); // or the compiler makes some loads behind the first sums
#ifdef LAYER_NORM
        sum_rows(v, n_rows, sums + SUMS, warp, group, first, norm_lane_sum, meet, total);
#pragma unroll
        for (u32 r = 0; r < PASS_ROWS; r++) {
#pragma unroll
            for (u32 t = 0; t < TURNS; t++) {
                norm_subtract<n_cols>(&v[r][t], piece_of(warp, t), norm_mean<n_cols>(total[r]));
            }
        }
#endif
#ifndef NORM_NONE
        sum_rows(v, n_rows, sums, warp, group, first, norm_lane_squares, meet, total);
#endif
#pragma unroll
        for (u32 r = 0; r < PASS_ROWS; r++) {
            u32 row = row_of(group, first, r);
            if (row >= n_rows) continue;
            float factor = norm_factor<n_cols>(total[r]);
#pragma unroll
            for (u32 k = 0; k < TURNS * 2; k++) {
                u32 col = norm_col<n_cols>(piece_of(warp, k / 2), k % 2);
                finish(row, k / 2, k % 2, col, v[r][k / 2].v[k % 2], factor);
            }
        }
    }
};

#if defined(POST_INPUT) && defined(NORM_INPUT)
// ---- the norm of the output before, of one row, by the warps that take the norm behind it ----
//
//     x = x + norm(post)                               POST_SCALE: times *post_scale
// POST_BESIDE: x = x + norm(norm(post) + norm(beside))
static_assert(MAX_ROWS == 1, "of one row's output");

// Norms: the RowNorms of what follows; groups of warps but its first have the same pieces again.
template <class Norms> struct PostNorm {
    enum : u32 { COLS = Norms::COLS, TURNS = Norms::TURNS };

#ifndef POST_BESIDE
    NormPiece w[TURNS];
#endif
    float scale;

    // Before stage_wait.
    DEVICE void prepare(const ProductArgs &a) {
#pragma unroll
        for (u32 t = 0; t < TURNS; t++) {
            u32 piece = Norms::piece_of(warp_index(), t);
#ifdef POST_BESIDE
            // There are no registers for these: they are as near as the values that they are multiplied with.
#pragma unroll
            for (u32 i = 0; i < 2; i++) {
                u32 col = MIN(norm_col<COLS>(piece, i), COLS - 4u);
                prefetch_l2(a.post_norm + col);
                prefetch_l2(a.beside_norm + col);
                prefetch_l2(a.joined_norm + col);
            }
#else
            w[t] = norm_load_weight<COLS>(a.post_norm, piece);
#endif
        }
        scale = 1;
#ifdef POST_SCALE
        scale = *a.post_scale;
#endif
    }

    // The warp's pieces of the new x; `stores`: into a.x_out, too. `sums` is [pieces], POST_BESIDE:
    // [3][pieces]; `meet` is the warps' barrier.
    template <class Meet>
    DEVICE void run(const ProductArgs &a, bool stores, float *sums, const Meet &meet,
                    NormPiece x[TURNS]) const {
        NormPiece post[TURNS];
#pragma unroll
        for (u32 t = 0; t < TURNS; t++) {
            u32 piece = Norms::piece_of(warp_index(), t);
            post[t] = norm_load<COLS>(a.post, piece);
#ifndef POST_BESIDE
            x[t] = norm_load<COLS>(a.x, piece);
#endif
        }
#ifdef POST_BESIDE
        join(a, sums, meet, post);
        NormPiece w[TURNS];
#pragma unroll
        for (u32 t = 0; t < TURNS; t++) {
            u32 piece = Norms::piece_of(warp_index(), t);
            x[t] = norm_load<COLS>(a.x, piece);
            w[t] = norm_load_weight<COLS>(a.joined_norm, piece);
        }
#endif
        square(post, sums);
        meet();
        float factor = factor_of(sums);
        stores = stores && Norms::group_of(warp_index()) == 0;
#pragma unroll
        for (u32 i = 0; i < TURNS * 2; i++) {
            u32 t = i / 2, k = i % 2, col = norm_col<COLS>(Norms::piece_of(warp_index(), t), k);
            float4 v = norm_add(x[t].v[k], post[t].v[k], factor, w[t].v[k]);
#ifdef POST_SCALE
            v = {v.x * scale, v.y * scale, v.z * scale, v.w * scale};
#endif
            x[t].v[k] = v;
            if (stores && col < COLS) *(float4 *)(a.x_out + col) = v;
        }
    }

  private:
    // Each piece's squares into `sums`.
    static DEVICE void square(const NormPiece v[TURNS], float *sums) {
#pragma unroll
        for (u32 t = 0; t < TURNS; t++) {
            float sum = norm_of_lanes(norm_lane_squares(v[t]));
            u32 piece = Norms::piece_of(warp_index(), t);
            bool is_mine = Norms::group_of(warp_index()) == 0 && piece < Norms::PIECES;
            if (is_mine && lane_index() == 0) sums[piece] = sum;
        }
    }
    // The norm's factor, when all have met.
    static DEVICE float factor_of(const float *sums) {
        float total = sums[0];
#pragma unroll
        for (u32 i = 1; i < Norms::PIECES; i++) {
            total += sums[i];
        }
        return norm_factor<COLS>(total, POST_EPS);
    }

#ifdef POST_BESIDE
    // `post` becomes the sum of its norm and of that of `beside`.
    template <class Meet>
    static DEVICE void join(const ProductArgs &a, float *sums, const Meet &meet, NormPiece post[TURNS]) {
        NormPiece beside[TURNS], w_post[TURNS], w_beside[TURNS];
        float *of_post = sums + Norms::PIECES, *of_beside = sums + 2 * Norms::PIECES;
#pragma unroll
        for (u32 t = 0; t < TURNS; t++) {
            u32 piece = Norms::piece_of(warp_index(), t);
            beside[t] = norm_load<COLS>(a.beside, piece);
            w_post[t] = norm_load_weight<COLS>(a.post_norm, piece);
            w_beside[t] = norm_load_weight<COLS>(a.beside_norm, piece);
        }
        square(post, of_post);
        square(beside, of_beside);
        meet();
        float factor = factor_of(of_post), by = factor_of(of_beside);
#pragma unroll
        for (u32 i = 0; i < TURNS * 2; i++) {
            u32 t = i / 2, k = i % 2;
            float4 v = beside[t].v[k], w = w_beside[t].v[k];
            float4 o = {v.x * by * w.x, v.y * by * w.y, v.z * by * w.z, v.w * by * w.w};
            post[t].v[k] = norm_add(o, post[t].v[k], factor, w_post[t].v[k]);
        }
    }
#endif
};
#endif
#endif
