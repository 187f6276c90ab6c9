// Attention over a compressed cache: all heads share one key a position, whose first KV_RANK values are its
// value, too.
//
//     out[row][head] = softmax(q[row][head] K^T) V over the positions up to the row's; V = the start of K
//
// f16 [MAX_ROWS][N_HEADS][KV_RANK]. (OP_ATTENTION.) One body for rows that decode and for prompts' rows, and
// one order of sums, that of attend.cuh: tiles of 64 keys, splits of 128, groups of 1,024, total. So a
// row has the same bits whichever class it is in.
//
// Grid: a block a row and 16 heads of it (attend.cuh's list), which are the rows of the tensor cores; where
// a prompt has many rows, a block takes several, the last rows first, as they have the most keys. A tile is
// in shared memory once, as keys and as values. Each of eight warps scores eight keys of it, over all dims;
// the scores go through shared memory to all warps, which make the same weights of them; then each warp adds
// its eighth of the values' dims. What a row does not see of its last tile is zeros, since 0 times infinity
// is not 0. Two tiles are in shared memory, one of them on its way, where there is room.
//
// Needs rows.cuh, kv_cache.cuh, soft_cap.cuh, attend.cuh. Defines: attend.cuh's with N_KV_HEADS 1, WINDOW 0
// and HEAD_DIM a multiple of 32; KV_RANK (a multiple of 128), MAX_ROWS.
#if !defined(KV_RANK) || !defined(MAX_ROWS) || KV_RANK % 128 || HEAD_DIM % 32 || N_KV_HEADS != 1 || \
    WINDOW != 0
#error "KV_RANK, MAX_ROWS"
#endif

enum : u32 {
    MLA_WARPS = 2 * TILE_PAGES, // each scores eight keys
    MLA_THREADS = MLA_WARPS * WARP,
    MLA_BLOCKS = MIN(MAX_ROWS * LISTS, 16 * 1024),
    WARP_PAIRS = KV_RANK / 16 / MLA_WARPS, // of 16 dims, which a warp has of the values
    OUT_GROUPS = 2 * WARP_PAIRS,
    GROUP_TILES = GROUP_SPLITS * SPLIT_TILES,

    LATENT_TILE_BYTES = TILE_PAGES * KV_PIECE_BYTES,
    SCORE_STRIDE = TILE_KEYS + 8, // floats from head to head: no bank conflicts
    SCORES_BYTES = 16 * SCORE_STRIDE * 4,
    MLA_SLOTS = 2 * LATENT_TILE_BYTES + KV_PIECE_BYTES + SCORES_BYTES <= SHARED_BYTES_MAX ? 2 : 1,
    MLA_Q_AT = MLA_SLOTS * LATENT_TILE_BYTES, // 16 heads, as the tokens of a page are
    SCORES_AT = MLA_Q_AT + KV_PIECE_BYTES,
    MLA_SHARED_BYTES = SCORES_AT + SCORES_BYTES,
};
static_assert(MLA_SHARED_BYTES <= SHARED_BYTES_MAX, "the host refuses GPUs with less");

typedef Triple<OUT_GROUPS> RowsTriple;

// What a block attends to at a time.
struct MlaTask {
    u32 row, list, position;
    const u32 *pages;
};
DEVICE MlaTask mla_task(const MlaAttentionArgs &a, u32 task, u32 n_rows) {
    u32 row = n_rows - 1 - task / LISTS;
    return {row, task % LISTS, a.rows[row].position, a.rows[row].pages + a.list_at};
}

DEVICE void load_list_queries(const MlaAttentionArgs &a, const MlaTask &t, u8 *shared) {
    enum : u32 { UNITS = HEAD_DIM / 8 };
    const f16 *q = a.q + ((u64)t.row * N_HEADS + list_first_head(t.list)) * HEAD_DIM;
    for (u32 i = thread_index(); i < 16 * UNITS; i += MLA_THREADS) {
        u32 head = i / UNITS;
        uint4 v = {0, 0, 0, 0};
        if (head < list_n_heads(t.list)) v = load_shared_data((const uint4 *)q + i);
        *(uint4 *)kv_row(shared + MLA_Q_AT, head, i % UNITS) = v;
    }
}

// A tile to its slot, which has been used. All threads call it.
DEVICE void fetch_latents(const MlaAttentionArgs &a, const MlaTask &t, u32 tile, u8 *shared) {
    enum : u32 { PAGE_UNITS = KV_PIECE_BYTES / 16 };
    u8 *slot = shared + tile % MLA_SLOTS * LATENT_TILE_BYTES;
    for (u32 i = thread_index(); i < TILE_PAGES * PAGE_UNITS; i += MLA_THREADS) {
        u32 page = tile * TILE_PAGES + i / PAGE_UNITS, at = i % PAGE_UNITS;
        u32 token = at / (layout_kv_sheet_bytes(KV_ROW_BYTES) / 16) % KV_PAGE;
        if (page * KV_PAGE + token <= t.position) {
            const f16 *from = a.kv + (u64)t.pages[page] * KV_TILE_HALVES(HEAD_DIM);
            copy_async_16(slot + i * 16, from + at * 8);
        } else {
            *(uint4 *)(slot + i * 16) = {0, 0, 0, 0};
        }
    }
    copy_async_commit();
}

// The scores of the warp's eight keys of a tile, to where all warps find them.
DEVICE void score_keys(const MlaTask &t, u32 tile, const u8 *slot, u8 *shared) {
    QueryPiece q;
    q.piece = shared + MLA_Q_AT;
    u32 lane = lane_index(), page = warp_index() / 2, half = warp_index() % 2 * 8;
    const u8 *piece = slot + page * KV_PIECE_BYTES;
    float s[4] = {0, 0, 0, 0};
#pragma unroll 6
    for (u32 k = 0; k < HEAD_DIM / 32; k++) {
        u32 a[4], b[4];
        load_matrix_4(b, piece + kv_row_at(half + lane % 8, 4 * k + lane / 8));
        q.step(2 * k, a);
        mma_f16(s, a, b);
        q.step(2 * k + 1, a);
        mma_f16(s, a, b + 2);
    }
    u32 key = page * KV_PAGE + half + lane % 4 * 2;
    float *scores = (float *)(shared + SCORES_AT) + lane / 4 * SCORE_STRIDE + key;
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        float2 v = {s[2 * i], s[2 * i + 1]};
        if (tile * TILE_KEYS + key > t.position) v.x = -INFINITY_F32;
        if (tile * TILE_KEYS + key + 1 > t.position) v.y = -INFINITY_F32;
        *(float2 *)(scores + i * 8 * SCORE_STRIDE) = v;
    }
}

// The tile's scores become weights, and its values join the split.
DEVICE void add_latents(const u8 *slot, const u8 *shared, RowsTriple *t) {
    const float *scores = (const float *)(shared + SCORES_AT) + lane_index() / 4 * SCORE_STRIDE;
    float s[2 * TILE_PAGES][4], top[2] = {t->top[0], t->top[1]}, base[2], sum[4];
#pragma unroll
    for (u32 j = 0; j < 2 * TILE_PAGES; j++) {
#pragma unroll
        for (u32 i = 0; i < 2; i++) {
            float2 v = *(const float2 *)(scores + i * 8 * SCORE_STRIDE + j * 8 + lane_index() % 4 * 2);
            s[j][2 * i] = v.x, s[j][2 * i + 1] = v.y;
        }
    }
    raise_tops<TILE_PAGES>(s, top);
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        base[i] = base_of(top[i]);
        float keep = exp2_fast(t->top[i] - base[i]);
        t->top[i] = top[i];
        sum[2 * i] = t->sum[i] * keep;
        sum[2 * i + 1] = 0;
#pragma unroll
        for (u32 j = 0; j < OUT_GROUPS; j++) {
            t->out[j][2 * i] *= keep, t->out[j][2 * i + 1] *= keep;
        }
    }
    const u32 ones[2] = {ONES_F16, ONES_F16};
#pragma unroll
    for (u32 p = 0; p < TILE_PAGES; p++) {
        u32 weights[4];
        weigh_page(s + 2 * p, base, weights);
        add_page<WARP_PAIRS, 1, false>(weights, slot + p * KV_PIECE_BYTES, warp_index() * WARP_PAIRS, KV_PAGE,
                                       t->out);
        mma_f16(sum, weights, ones);
    }
    t->sum[0] = sum[0], t->sum[1] = sum[2];
}

DEVICE void join(RowsTriple *to, const RowsTriple &from, bool begins) {
    if (begins) *to = from;
    else triple_fold(to, from);
}

DEVICE void store_latents(const MlaAttentionArgs &a, const MlaTask &t, const RowsTriple &total) {
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        u32 head = lane_index() / 4 + i * 8;
        if (head >= list_n_heads(t.list)) continue;
        float inverse = reciprocal_fast(total.sum[i]);
        f16 *out = a.out + ((u64)t.row * N_HEADS + list_first_head(t.list) + head) * KV_RANK +
                   warp_index() * WARP_PAIRS * 16 + lane_index() % 4 * 2;
#pragma unroll
        for (u32 j = 0; j < OUT_GROUPS; j++) {
            *(u32 *)(out + j * 8) =
                pack_f16(attended(total.out[j][2 * i], inverse), attended(total.out[j][2 * i + 1], inverse));
        }
    }
}

DEVICE void mla_attention_run(const MlaAttentionArgs &a, const MlaTask &t, u8 *shared) {
    u32 n_tiles = t.position / TILE_KEYS + 1;
    RowsTriple split, group, total;
    fetch_latents(a, t, 0, shared);
    load_list_queries(a, t, shared);
#pragma unroll 1
    for (u32 tile = 0; tile < n_tiles; tile++) {
        const u8 *slot = shared + tile % MLA_SLOTS * LATENT_TILE_BYTES;
        bool ends = tile + 1 == n_tiles;
        copy_async_wait<0>();
        block_sync(); // the tile is there, and all have used the one before
        if (MLA_SLOTS > 1 && !ends) fetch_latents(a, t, tile + 1, shared);
        score_keys(t, tile, slot, shared);
        block_sync();
        if (tile % SPLIT_TILES == 0) triple_clear(&split);
        add_latents(slot, shared, &split);
        if (MLA_SLOTS == 1) block_sync();
        if (MLA_SLOTS == 1 && !ends) fetch_latents(a, t, tile + 1, shared);
        if (!ends && tile % SPLIT_TILES != SPLIT_TILES - 1) continue;
        join(&group, split, tile % GROUP_TILES < SPLIT_TILES);
        if (ends || tile % GROUP_TILES == GROUP_TILES - 1) join(&total, group, tile < GROUP_TILES);
    }
    store_latents(a, t, total);
    block_sync(); // its queries have been used
}

EXPORTED StageInfo mla_attention_info = {MLA_THREADS, {MLA_BLOCKS, 1}, MLA_SHARED_BYTES};

KERNEL(MLA_THREADS, 1) mla_attention(MlaAttentionArgs a) {
    stage_launch_next();
    stage_wait();
    u32 n_rows = load_shared_data(&a.batch->n_rows);
    for (u32 i = block_index(); i < n_rows * LISTS; i += MLA_BLOCKS) {
        mla_attention_run(a, mla_task(a, i, n_rows), shared_memory());
    }
}
