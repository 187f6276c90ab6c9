// Attention with a compressed cache: what is turned, and the cache's new entries.
//
//     entry = {norm(c), turn(t)}                                      raw_keys[row] = {c, t}
//     q[row][head] from KV_RANK on = turn(t) * SCORE_SCALE * log2(e)  raw[row][head] = {n, t}
//
// c are the KV_RANK values of the latent vector, whose norm is an RMS norm; t the TURNED ones behind them, or
// behind a query's UNTURNED ones n, whose pairs 2 i, 2 i + 1 are turned by the angles of rope.cuh's table. An
// entry is f16, and lies where a key of one head of KV_RANK + TURNED dims would (layout_kv_at); there are no
// values.
//
// Operations: RMS_NORM, ROPE, KV_WRITE. Order of sums: rows.cuh. Part of mla_queries.cuh's grid: a block
// of HEAD_THREADS a row; where a prompt has many rows, a block takes several in turn. Needs rows.cuh,
// turned.cuh, head_product.cuh. Defines: KV_RANK (a multiple of 4), TURNED, UNTURNED, SCORE_SCALE,
// NORM_EPS, MAX_ROWS; QUERY_COLS, KEY_COLS: values from a row of raw and of raw_keys to the next.
#if !defined(KV_RANK) || !defined(TURNED) || !defined(UNTURNED) || !defined(SCORE_SCALE) || !defined(NORM_EPS)
#error "KV_RANK, TURNED, UNTURNED, SCORE_SCALE, NORM_EPS"
#endif
static_assert(UNTURNED % 2 == 0 && TURNED % 2 == 0, "pairs");

enum : u32 {
    ENTRY_DIM = KV_RANK + TURNED,
    QUERY_DIM = UNTURNED + TURNED, // of a product
    TURNED_PAIRS = TURNED / 2,
    ENTRY_BLOCKS = MIN(MAX_ROWS, ROW_BLOCKS_MAX),
};
#define QUERY_SCALE ((float)(SCORE_SCALE)*1.44269504089f)

typedef RowNorms<KV_RANK, 1, HEAD_WARPS> LatentNorm;

// A row, and where its entry goes: known before the step began.
struct EntryRow {
    u32 row;
    f16 *entries; // of its page
    u32 token;    // of the page
};
DEVICE EntryRow entry_row(const MlaQueriesArgs &a, u32 row) {
    u32 position = a.rows[row].position, page = a.rows[row].pages[a.list_at + position / KV_PAGE];
    return {row, a.kv + (u64)page * KV_TILE_HALVES(ENTRY_DIM), position % KV_PAGE};
}

// Pairs of the key and of all heads' queries: the key is number N_HEADS of the heads.
DEVICE void turn_pairs(const MlaQueriesArgs &a, const EntryRow &e) {
    enum : u32 { ALL = (N_HEADS + 1) * TURNED_PAIRS, AT_ONCE = 8 };
    for (u32 first = thread_index(); first < ALL; first += AT_ONCE * HEAD_THREADS) {
        float2 v[AT_ONCE], angle[AT_ONCE];
#pragma unroll
        for (u32 i = 0; i < AT_ONCE; i++) {
            u32 at = MIN(first + i * HEAD_THREADS, ALL - 1), head = at / TURNED_PAIRS;
            const float *from = head < N_HEADS ? a.raw + (u64)e.row * QUERY_COLS + head * QUERY_DIM + UNTURNED
                                               : a.raw_keys + (u64)e.row * KEY_COLS + KV_RANK;
            v[i] = load_shared_data((const float2 *)from + at % TURNED_PAIRS);
            angle[i] =
                load_shared_data((const float2 *)a.rope + (u64)e.row * TURNED_PAIRS + at % TURNED_PAIRS);
        }
#pragma unroll
        for (u32 i = 0; i < AT_ONCE; i++) {
            u32 at = first + i * HEAD_THREADS, head = at / TURNED_PAIRS,
                dim = KV_RANK + at % TURNED_PAIRS * 2;
            if (at >= ALL) break;
            float x = turned_first(v[i].x, v[i].y, angle[i].x, angle[i].y);
            float y = turned_second(v[i].x, v[i].y, angle[i].x, angle[i].y);
            if (head < N_HEADS) {
                f16 *q = a.out + ((u64)e.row * N_HEADS + head) * ENTRY_DIM;
                *(u32 *)(q + dim) = pack_f16(x * QUERY_SCALE, y * QUERY_SCALE);
            } else {
                *(u32 *)(e.entries + layout_kv_at(ENTRY_DIM, 0, 0, e.token, dim)) = pack_f16(x, y);
            }
        }
    }
}

DEVICE void mla_keys_run(const MlaQueriesArgs &a, const LatentNorm &norm, const EntryRow &e, float *sums) {
    turn_pairs(a, e);
    norm.each(
        a.raw_keys + (u64)e.row * KEY_COLS, 1, sums, warp_index(), [] { block_sync(); },
        [&](u32, u32 turn, u32 i, u32 col, float4 v, float factor) {
            v = norm_value(v, factor, norm.w[turn].v[i], float4{0, 0, 0, 0});
            f16 *to = e.entries + layout_kv_at(ENTRY_DIM, 0, 0, e.token, col); // four of a unit's eight
            *(uint2 *)to = {pack_f16(v.x, v.y), pack_f16(v.z, v.w)};
        });
}

// The block's rows, of block number `block` of ENTRY_BLOCKS; it waits for the stage before.
DEVICE void mla_keys_block(const MlaQueriesArgs &a, u32 block, u32 n_rows, float *sums) {
    LatentNorm norm;
    EntryRow e = {};
    norm.prepare(a.norm, 0, warp_index());
    if (block < n_rows) e = entry_row(a, block);
    stage_wait();
    for (u32 row = block; row < n_rows;) {
        mla_keys_run(a, norm, e, sums);
        row += ENTRY_BLOCKS;
        if (row >= n_rows) break;
        e = entry_row(a, row);
        block_sync(); // the sums have been read
    }
}
