// What attention of batches' rows and of a prompt's rows share: which keys are taken together, in which
// order sums are made, and the pieces of arithmetic. So a row's result has the same bits whoever computes
// it.
//
//     tile    64 keys at a multiple of 64. Scores; their largest, m, goes up; weights 2^(score - m),
//             rounded to f16; l and O (sum of weights, sum of weights times values) are put to the new
//             scale; the tile's pages of 16 keys are added in order (l as a product with ones)
//     split   2 tiles, 128 keys: one triple (m, l, O) that begins empty
//     group   8 splits, 1,024 keys: their triples are folded in order
//     total   the groups' triples, folded in order; then the sink, as a triple (score, 1, 0); then O / l
// Folding (M, L, O) and (m, l, o): with the new largest score b,
//     L = fma(L, 2^(M - b), l * 2^(m - b))
//     O = fma(O, 2^(M - b), o * 2^(m - b))
// The first triple of a fold is taken as it is. A tile, split or group that a row does not see changes none
// of its bits (m stays, 2^0 = 1, and zeros are added), but for the sign of zeros, which the last step takes
// off. So it may be computed, or passed over.
//
// All products are mma_f16 with 16 rows (heads that share a KV head, at one position or at several) as A, and
// keys or dims as B. Lane 4 g + c has rows g and g + 8, columns 8 j + 2 c and + 1.
//
// Pages come to shared memory as they are in the cache (layout.h). KV_Q8: products take codes as f16, which
// is exact; a score is multiplied by its key's scale, in float32; a value is code * scale, rounded to f16.
// Needs kv_cache.cuh, rows.cuh, soft_cap.cuh.
// Defines: N_HEADS, N_KV_HEADS, HEAD_DIM (a multiple of 16), WINDOW (positions that a row sees, itself
// included; 0: all), SOFT_CAP; SHARED_BYTES_MAX; MAX_ROWS.
#if !defined(N_HEADS) || !defined(N_KV_HEADS) || !defined(HEAD_DIM) || !defined(WINDOW) || HEAD_DIM % 16
#error "N_HEADS, N_KV_HEADS, HEAD_DIM, WINDOW"
#endif

enum : u32 {
    TILE_KEYS = 64,
    TILE_PAGES = TILE_KEYS / KV_PAGE,
    SPLIT_TILES = 2,
    SPLIT_KEYS = SPLIT_TILES * TILE_KEYS,
    GROUP_SPLITS = ATTENTION_GROUP_SPLITS,

    TILE_BYTES = TILE_PAGES * KV_PAGE_BYTES,
    QUERY_ROW_BYTES = 2 * HEAD_DIM,
    QUERY_PIECE_BYTES = KV_PAGE * QUERY_ROW_BYTES, // 16 rows of queries, as a page's keys of f16 are
    Q_STEPS = HEAD_DIM / 16,
    DIM_PAIRS = HEAD_DIM / 16, // of 8 dims each
};
static_assert(GROUP_SPLITS * SPLIT_KEYS == ATTENTION_GROUP_KEYS, "8 splits a group");
// Of a block; the host says where a GPU has less than others of its generation or newer ones.
#ifndef SHARED_BYTES_MAX
#define SHARED_BYTES_MAX \
    (SM_ARCH < 80 ? 65536 : SM_ARCH < 86 ? 163 * 1024 : SM_ARCH < 90 ? 99 * 1024 : 227 * 1024)
#endif
#define ONES_F16 0x3C003C00u

// ---- heads that share keys ----

// Heads of a KV head are taken together, since they read the same keys: 16 at most, a list.
enum : u32 {
    KV_HEAD_SHARERS = N_HEADS / N_KV_HEADS,
    LISTS = layout_attention_lists(N_HEADS, N_KV_HEADS), // of a row
    LIST_PARTS = LISTS / N_KV_HEADS,                     // of a KV head
    LIST_HEADS = layout_attention_heads(N_HEADS, N_KV_HEADS),
};
static_assert(KV_HEAD_SHARERS * N_KV_HEADS == N_HEADS, "heads share keys and values evenly");

DEVICE u32 list_kv_head(u32 list) {
    return list / LIST_PARTS;
}
DEVICE u32 list_first_head(u32 list) {
    return list_kv_head(list) * KV_HEAD_SHARERS + list % LIST_PARTS * 16;
}
DEVICE u32 list_n_heads(u32 list) {
    return MIN((list_kv_head(list) + 1) * KV_HEAD_SHARERS - list_first_head(list), (u32)LIST_HEADS);
}

// ---- what a row sees ----

struct RowKeys {
    u32 position; // the last key
    u32 first;    // the first key
};
DEVICE RowKeys row_keys(u32 position) {
#ifdef CHUNKED
    return {position, position - position % WINDOW};
#else
    return {position, WINDOW > 0 && position + 1 > WINDOW ? position + 1 - WINDOW : 0};
#endif
}
DEVICE bool is_seen(const RowKeys &row, u32 key) {
    return key <= row.position && key >= row.first;
}

// Of 32 numbers, a lane each: the sum over the lanes up to this one.
DEVICE u32 sum_up_to(u32 v) {
#pragma unroll
    for (u32 d = 1; d < WARP; d *= 2) {
        u32 below = shuffle_up(v, d);
        if (lane_index() >= d) v += below;
    }
    return v;
}

// ---- lists of work, row by row ----

// `of(row)`: how many pieces a row has, 0 past the last one. All lanes call these together, and get the same.

// Of the first n rows together.
template <typename Fn> DEVICE u32 pieces_of_rows(u32 n, Fn of) {
    u32 total = 0;
    for (u32 first = 0; first < n; first += WARP) {
        total += shuffle(sum_up_to(of(first + lane_index())), WARP - 1);
    }
    return total;
}
// The row that has piece `at` of all, which is below their number; *before: the pieces of the rows before it.
template <typename Fn> DEVICE u32 row_of_piece(u32 at, u32 *before, Fn of) {
    u32 row = 0;
    *before = 0;
    while (MAX_ROWS > 1) {
        u32 own = of(row + lane_index()), up_to = *before + sum_up_to(own);
        u32 reached = ballot_lanes(at < up_to);
        if (reached) {
            u32 lane = count_ones((reached & -reached) - 1);
            *before = shuffle(up_to - own, lane);
            return row + lane;
        }
        *before = shuffle(up_to, WARP - 1);
        row += WARP;
    }
    return row;
}

// ---- operands ----

// A page's keys (or values), and 16 rows of queries, are rows of units of 16 bytes. kv_row: that of a token.
DEVICE u32 kv_row_at(u32 token, u32 unit) {
    return layout_kv_unit_at(KV_ROW_BYTES, token, unit);
}
DEVICE u8 *kv_row(u8 *piece, u32 token, u32 unit) {
    return piece + kv_row_at(token, unit);
}
DEVICE u32 query_row_at(u32 row, u32 unit) {
    return layout_kv_unit_at(QUERY_ROW_BYTES, row, unit);
}
// The place 2 k units on from that of unit 0 or 1: what varies from lane to lane is worked out once.
template <u32 row_bytes> DEVICE u32 units_on(u32 row_at, u32 k) {
    enum : u32 { SHEET = layout_kv_sheet_bytes(row_bytes), UNITS = SHEET / 16 };
    return (row_at ^ (2 * k % UNITS * 16)) + 2 * k / UNITS * 8 * SHEET;
}
DEVICE u32 kv_units_on(u32 row_at, u32 k) {
    return units_on<KV_ROW_BYTES>(row_at, k);
}

// 16 rows of queries, in registers or in shared memory. step(k, a) gives 16 dims as A. UNROLLED: steps at a
// time.
struct QueryRegisters {
    enum : u32 { UNROLLED = Q_STEPS };
    u32 q[Q_STEPS][4];
    DEVICE void step(u32 k, u32 a[4]) const {
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            a[i] = q[k][i];
        }
    }
};
// Rows g and g + 8 of this lane begin at row[0], row[1] (NULL: zeros).
DEVICE void load_queries(const f16 *const row[2], QueryRegisters *q) {
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        const f16 *from = row[i % 2];
        u32 dim = lane_index() % 4 * 2 + i / 2 * 8;
#pragma unroll
        for (u32 s = 0; s < Q_STEPS; s++) {
            q->q[s][i] = from ? load_shared_data((const u32 *)(from + s * 16 + dim)) : 0;
        }
    }
}

struct QueryPiece {
    enum : u32 { UNROLLED = Q_STEPS };
    const u8 *piece;
    DEVICE void step(u32 k, u32 a[4]) const {
        u32 row_at = query_row_at(lane_index() % 16, lane_index() / 16);
        load_matrix_4(a, piece + units_on<QUERY_ROW_BYTES>(row_at, k));
    }
};

#ifdef KV_Q8
// Two of four codes as f16: their bytes with 0x64 above them are 1024 + 128 + code.
enum : u32 { CODES_01 = 0x4140, CODES_23 = 0x4342, CODES_02 = 0x4240, CODES_13 = 0x4341 };
enum : u32 { CODES_ABOVE = 0x64646464 };
DEVICE u32 codes_f16(u32 codes, u32 which, u32 above = CODES_ABOVE) {
    return add_f16x2(permute_bytes(codes, above, which), 0xE480E480);
}
DEVICE u32 scales_of(const u8 *piece, u32 token) { // of two neighbours
    return *(const u32 *)(piece + layout_kv_scale_at(HEAD_DIM, token));
}

// What score_pages adds up, before the scales: a load brings two units of 16 keys.
template <u32 pages, class Queries, class Page>
DEVICE void multiply_pages(const Queries &queries, Page page, float s[2 * pages][4]) {
    u32 lane = lane_index(), row_at = kv_row_at(lane % 16, 0), next_at = kv_row_at(lane % 16, lane / 16);
#pragma unroll
    for (u32 k = 0; k < Q_STEPS; k += 2) {
        u32 b[pages][4];
        bool alone = k + 1 == Q_STEPS;
#pragma unroll
        for (u32 p = 0; p < pages; p++) {
            load_matrix_4(b[p], page(p) + kv_units_on(alone ? row_at : next_at, k / 2));
        }
#pragma unroll
        for (u32 i = 0; i < 2; i++) {
            u32 a[4];
            if (i == 1 && alone) break;
            queries.step(k + i, a);
#pragma unroll
            for (u32 p = 0; p < pages; p++) {
#pragma unroll
                for (u32 j = 0; j < 2; j++) {
                    u32 codes = b[p][2 * i + j],
                        pair[2] = {codes_f16(codes, CODES_01), codes_f16(codes, CODES_23)};
                    mma_f16(s[2 * p + j], a, pair);
                }
            }
        }
    }
#pragma unroll
    for (u32 j = 0; j < 2 * pages; j++) {
        u32 scales = scales_of(page(j / 2), j % 2 * 8 + lane % 4 * 2);
        float scale[2] = {f16_to_f32((f16)scales), f16_to_f32((f16)(scales >> 16))};
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            s[j][i] *= scale[i % 2];
        }
    }
}
#else
template <u32 pages, class Queries, class Page>
DEVICE void multiply_pages(const Queries &queries, Page page, float s[2 * pages][4]) {
    u32 lane = lane_index(), row_at = kv_row_at(lane / 16 * 8 + lane % 8, lane / 8 % 2);
#pragma unroll Queries::UNROLLED
    for (u32 k = 0; k < Q_STEPS; k++) {
        u32 a[4], unit_at = kv_units_on(row_at, k);
        queries.step(k, a);
#pragma unroll
        for (u32 p = 0; p < pages; p++) {
            u32 b[4];
            load_matrix_4(b, page(p) + unit_at);
            mma_f16(s[2 * p], a, b);
            mma_f16(s[2 * p + 1], a, b + 2);
        }
    }
}
#endif

// Scores of the keys of pages page(0) … page(pages - 1): s[2 p] those of page p's first 8 keys, s[2 p + 1] of
// the second 8.
template <u32 pages, class Queries, class Page>
DEVICE void score_pages(const Queries &queries, Page page, float s[2 * pages][4]) {
#pragma unroll
    for (u32 j = 0; j < 2 * pages; j++) {
        s[j][0] = s[j][1] = s[j][2] = s[j][3] = 0;
    }
    multiply_pages<pages>(queries, page, s);
#ifdef SOFT_CAP
#pragma unroll
    for (u32 i = 0; i < 8 * pages; i++) {
        s[i / 4][i % 4] = cap_score(s[i / 4][i % 4]);
    }
#endif
}

// first_key: of s[0]'s keys. rows: of the lane's rows; n_rows 1: row g + 8 is not there, here and below.
template <u32 pages, u32 n_rows = 2>
DEVICE void hide_keys(const RowKeys rows[2], u32 first_key, float s[2 * pages][4]) {
#pragma unroll
    for (u32 i = 0; i < 8 * pages; i++) {
        if (i % 4 / 2 >= n_rows) continue;
        u32 key = first_key + i / 4 * 8 + lane_index() % 4 * 2 + i % 2;
        if (!is_seen(rows[i % 4 / 2], key)) s[i / 4][i % 4] = -INFINITY_F32;
    }
}

// The largest score of each of the lane's rows, or `top` where that is larger.
template <u32 pages, u32 n_rows = 2> DEVICE void raise_tops(const float s[2 * pages][4], float top[2]) {
#pragma unroll
    for (u32 i = 0; i < n_rows; i++) {
#pragma unroll
        for (u32 j = 0; j < 2 * pages; j++) {
            top[i] = max_f32(top[i], max_f32(s[j][2 * i], s[j][2 * i + 1]));
        }
        top[i] = max_f32(top[i], shuffle_xor(top[i], 1));
        top[i] = max_f32(top[i], shuffle_xor(top[i], 2));
    }
}

// What scores are taken from: 0 where nothing is seen yet, since -infinity less itself is no number.
DEVICE float base_of(float top) {
    return top == -INFINITY_F32 ? 0.0f : top;
}

// Weights of a page's keys as A.
template <u32 n_rows = 2> DEVICE void weigh_page(const float s[2][4], const float base[2], u32 weights[4]) {
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        const float *v = s[i / 2] + i % 2 * 2;
        weights[i] = 0;
        if (i % 2 >= n_rows) continue;
        weights[i] = pack_f16(exp2_fast(v[0] - base[i % 2]), exp2_fast(v[1] - base[i % 2]));
    }
}

// Keeps the first n of a page's 16 values of a dim, as b has them. What lies past a row's position may be
// anything, and 0 times infinity is not 0.
DEVICE void keep_values(u32 b[2], i32 n) {
    i32 key = (i32)(lane_index() % 4 * 2);
#pragma unroll
    for (i32 i = 0; i < 2; i++) {
        b[i] &= (key + 8 * i < n ? 0xFFFFu : 0u) | (key + 8 * i + 1 < n ? 0xFFFF0000u : 0u);
    }
}

// out[2 i], out[2 i + 1]: dims 16 (first + i step) … and + 8 …. masked: only the first n values are there, of
// 16. (Told at compile time: a branch at each load would keep loads and products apart.) row_bytes: of a
// token's values; of f16 they may be some of its dims (attention_list.cuh).
template <u32 pairs, u32 step, bool masked, u32 row_bytes = KV_ROW_BYTES>
DEVICE void add_page(const u32 weights[4], const u8 *values, u32 first, i32 n, float out[2 * pairs][4]) {
#ifdef KV_Q8
    u32 lane = lane_index();
    u32 scales[2] = {scales_of(values, lane % 4 * 2), scales_of(values, lane % 4 * 2 + 8)};
#pragma unroll
    for (u32 i = 0; i < pairs; i += 2) { // two pairs a load, where there are
        u32 pair = first + i * step, next = pair + step;
        if (DIM_PAIRS % step && pair >= DIM_PAIRS) break;
        u32 codes[4];
        if (i + 1 == pairs || (DIM_PAIRS % step && next >= DIM_PAIRS)) next = pair;
        load_matrix_4_transposed(codes, values + kv_row_at(lane % 16, lane < 16 ? pair : next));
#pragma unroll
        for (u32 j = 0; j < 2; j++) {
            if (i + j >= pairs || (DIM_PAIRS % step && pair + j * step >= DIM_PAIRS)) break;
#pragma unroll
            for (u32 h = 0; h < 2; h++) {
                u32 which = h ? CODES_13 : CODES_02;
                u32 b[2] = {multiply_f16x2(codes_f16(codes[2 * j], which), scales[0]),
                            multiply_f16x2(codes_f16(codes[2 * j + 1], which), scales[1])};
                if (masked) keep_values(b, n);
                mma_f16(out[2 * (i + j) + h], weights, b);
            }
        }
    }
#else
    u32 row_at = layout_kv_unit_at(row_bytes, lane_index() % 16, lane_index() / 16);
#pragma unroll
    for (u32 i = 0; i < pairs; i++) {
        u32 pair = first + i * step;
        if (row_bytes / 32 % step && pair >= row_bytes / 32) break;
        u32 b[4];
        load_matrix_4_transposed(b, values + units_on<row_bytes>(row_at, pair));
        if (masked) {
            keep_values(b, n);
            keep_values(b + 2, n);
        }
        mma_f16(out[2 * i], weights, b);
        mma_f16(out[2 * i + 1], weights, b + 2);
    }
#endif
}

// ---- triples ----

// Of a lane's rows g and g + 8, and of the dims it has: n groups of 8.
template <u32 n> struct Triple {
    float top[2]; // -infinity: empty
    float sum[2];
    float out[n][4];
};

template <u32 n> DEVICE void triple_clear(Triple<n> *t) {
    t->top[0] = t->top[1] = -INFINITY_F32;
    t->sum[0] = t->sum[1] = 0;
#pragma unroll
    for (u32 j = 0; j < n; j++) {
        t->out[j][0] = t->out[j][1] = t->out[j][2] = t->out[j][3] = 0;
    }
}

// Factors of what was gathered and of what joins it; *top becomes the larger.
struct FoldFactors {
    float keep, add;
};
DEVICE FoldFactors fold_factors(float *top, float other) {
    float larger = max_f32(*top, other), base = base_of(larger);
    FoldFactors f = {exp2_fast(*top - base), exp2_fast(other - base)};
    *top = larger;
    return f;
}

template <u32 n> DEVICE void triple_fold(Triple<n> *t, const Triple<n> &other) {
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        FoldFactors f = fold_factors(&t->top[i], other.top[i]);
        t->sum[i] = fma_f32(t->sum[i], f.keep, other.sum[i] * f.add);
#pragma unroll
        for (u32 j = 0; j < n; j++) {
            t->out[j][2 * i] = fma_f32(t->out[j][2 * i], f.keep, other.out[j][2 * i] * f.add);
            t->out[j][2 * i + 1] = fma_f32(t->out[j][2 * i + 1], f.keep, other.out[j][2 * i + 1] * f.add);
        }
    }
}

// In powers of two, as scores are.
DEVICE float sink_score(float sink) {
    return sink * 1.44269504089f;
}
// The sink of row i's head.
template <u32 n> DEVICE void triple_add_sink(Triple<n> *t, u32 i, float sink) {
    FoldFactors f = fold_factors(&t->top[i], sink_score(sink));
    t->sum[i] = fma_f32(t->sum[i], f.keep, f.add);
#pragma unroll
    for (u32 j = 0; j < n; j++) {
        t->out[j][2 * i] *= f.keep;
        t->out[j][2 * i + 1] *= f.keep;
    }
}

// What is stored of a value: the sum is of the weights. Adding 0 takes the sign off a zero.
DEVICE float attended(float out, float inverse) {
    return fma_f32(out, inverse, 0.0f);
}

// ---- tiles on their way to shared memory ----

// Which tile of which head.
struct KvTile {
    const u32 *pages; // of the sequence, the layer's list
    u32 kv_head;
    u32 tile;
    u32 first, last; // keys that are wanted
};
// Page p of a tile. Those before the first key's have been given back and may hold anything: that one is
// taken for them. (What is hidden weighs 0, and 0 times infinity is not 0.)
DEVICE u32 tile_page(const KvTile &t, u32 p) {
    return t.pages[MAX(t.tile * TILE_PAGES + p, t.first / KV_PAGE)];
}
DEVICE u32 tile_page_count(const KvTile &t) {
    return MIN(t.last / KV_PAGE - t.tile * TILE_PAGES + 1, (u32)TILE_PAGES);
}

// Parts of a tile that come together: all of it, or keys and values one after the other where a tile is too
// large for the GPU's shared memory.
enum TilePart : u32 { TILE_ALL, TILE_KEYS_ALONE, TILE_VALUES_ALONE };

// Copies by `threads` threads, of which this is number `thread`; what a page has of the part goes to slot +
// page * its stride.
template <u32 threads>
DEVICE void copy_tile(const f16 *kv, const KvTile &t, u8 *slot, u32 thread, TilePart part) {
    u32 bytes = part == TILE_ALL ? (u32)KV_PAGE_BYTES : (u32)KV_PIECE_BYTES, n = tile_page_count(t);
    u32 skip = part == TILE_VALUES_ALONE ? KV_PIECE_BYTES : 0u;
    for (u32 p = 0; p < n; p++) {
        const u8 *from = (const u8 *)kv_head_page(kv, tile_page(t, p), t.kv_head) + skip;
        for (u32 at = thread * 16; at < bytes; at += threads * 16) {
            copy_async_16(slot + p * bytes + at, from + at);
        }
    }
}

// Ends a tile's copies, and waits until at most `pending` tiles are under way; bulk copies have barriers
// instead.
DEVICE void copy_tile_commit() {
#if SM_ARCH < 90
    copy_async_commit();
#endif
}
template <int pending> DEVICE void copy_tile_wait() {
#if SM_ARCH < 90
    copy_async_wait<pending>();
#endif
}

#if SM_ARCH >= 90
// By one warp.
DEVICE void bulk_copy_tile(const f16 *kv, const KvTile &t, u8 *slot, BulkBarrier *full) {
    u32 n = tile_page_count(t), p = lane_index();
    if (p == 0) bulk_barrier_expect(full, n * KV_PAGE_BYTES);
    warp_sync();
    if (p < n) {
        bulk_copy(slot + p * KV_PAGE_BYTES, kv_head_page(kv, tile_page(t, p), t.kv_head), KV_PAGE_BYTES,
                  full);
    }
}
#endif

// ---- rows of a prompt ----

// A query of a stretch: a row of the batch, and a head.
struct SpanQuery {
    u32 row, head;
    bool is_there;
};
// `t`: a task of rows `row` to `row` + n_rows and of the heads of `list`.
template <typename Task> DEVICE SpanQuery span_query(const Task &t, u32 query) {
    u32 row = query / LIST_HEADS, head = query % LIST_HEADS;
    return {t.row + row, list_first_head(t.list) + head, row < t.n_rows && head < list_n_heads(t.list)};
}

// What a query's values are multiplied by at last; the sink joins, too.
struct SpanEnd {
    float keep, inverse;
};
DEVICE SpanEnd span_end(const BatchAttentionArgs &a, const SpanQuery &q, float top, float sum) {
    float keep = 1;
#ifdef HAS_SINKS
    FoldFactors f = fold_factors(&top, q.is_there ? sink_score(a.sinks[q.head]) : 0.0f);
    sum = fma_f32(sum, f.keep, f.add);
    keep = f.keep;
#else
    (void)a, (void)q, (void)top;
#endif
    return {keep, reciprocal_fast(sum)};
}
// Values of the lane's two queries, from dim `dim` on, as activations.
DEVICE void store_span_values(const BatchAttentionArgs &a, const SpanQuery q[2], const SpanEnd end[2],
                              u32 dim, const float4 &v) {
    if (q[0].is_there) {
        activation_store_2(a.out, q[0].row, q[0].head * HEAD_DIM + dim,
                           attended(v.x * end[0].keep, end[0].inverse),
                           attended(v.y * end[0].keep, end[0].inverse));
    }
    if (q[1].is_there) {
        activation_store_2(a.out, q[1].row, q[1].head * HEAD_DIM + dim,
                           attended(v.z * end[1].keep, end[1].inverse),
                           attended(v.w * end[1].keep, end[1].inverse));
    }
}
