// Prefill: attention of a step's rows over the cache, the rows' own entries included.
//
//     out[row][h] = softmax(q[row][h] K^T) V over the positions that the row sees
//
// f16, in the order of layout.h.
// Flash attention (Dao 2023) with online softmax (Milakov, Gimelshein 2018): scores are never stored.
// (OP_ATTENTION.)
// Grid: a block a head and QUERY_ROWS rows, 16 a warp, the longest first. The block goes through the
// positions in tiles of KEY_TOKENS, which begin at multiples of KEY_TOKENS: a tile that a row does not see
// changes nothing of it (its largest score stays, 2^0 = 1, and zeros are added), so that a row's result
// depends on its position alone. On the tensor cores (K and V are in the cache as ldmatrix wants them):
//     S [16 rows][KEY_TOKENS] = Q K^T
//     O [16][HEAD_DIM] += P V
// Two tiles in shared memory: one comes while the other is used; rows are padded by 16 bytes against bank
// conflicts.
// A sink (HAS_SINKS) is a score without a value that every row of its head begins with.
// Defines: N_HEADS, N_KV_HEADS, HEAD_DIM (a multiple of 16), WINDOW (positions a row sees, itself included;
// 0: all), MAX_ROWS; HAS_SINKS, SOFT_CAP (soft_cap.cuh). Needs kv_cache.cuh and prefill_tiles.cuh.
#if !defined(N_HEADS) || !defined(N_KV_HEADS) || !defined(HEAD_DIM) || !defined(WINDOW) || HEAD_DIM % 16
#error "N_HEADS, N_KV_HEADS, HEAD_DIM, WINDOW"
#endif

enum : u32 {
    ATTENTION_WARPS = 4,
    QUERY_ROWS = ATTENTION_WARPS * 16,
    QUERY_TILES = CEIL_DIV(MAX_ROWS, QUERY_ROWS),
    KEY_TOKENS = SM_ARCH == 75 && HEAD_DIM > 192 ? 32 : 64, // a tile: what fits 64 KB
    KEY_PAGES = KEY_TOKENS / KV_PAGE,
    KEY_STRIDE = HEAD_DIM + 8,     // halves from token to token
    VALUE_STRIDE = KEY_TOKENS + 8, // halves from dimension to dimension
    VALUES_AT = KEY_TOKENS * KEY_STRIDE * 2,
    KV_TILE_BYTES = VALUES_AT + HEAD_DIM * VALUE_STRIDE * 2,
    KV_TILES = 2 * KV_TILE_BYTES <= (SM_ARCH == 75 ? 65536 : 98304) ? 2 : 1, // in shared memory
    PREFILL_ATTENTION_SHARED_BYTES = KV_TILES * KV_TILE_BYTES,
    Q_STEPS = HEAD_DIM / 16,
    KEY_GROUPS = KEY_TOKENS / 8,
    OUT_GROUPS = HEAD_DIM / 8,
};

// What a block attends to.
struct AttentionTask {
    u32 head, kv_head;
    u32 row;      // first, of QUERY_ROWS
    u32 n_rows;   // of the step
    u32 position; // of row 0 of the step
    u32 last;     // position of the block's last row
    u32 first_tile, end_tile;
};
DEVICE AttentionTask attention_task(const StepSpan *span, u32 block) {
    AttentionTask t;
    t.n_rows = span->n_rows;
    t.position = span->position;
    t.head = block % N_HEADS;
    t.kv_head = t.head / (N_HEADS / N_KV_HEADS);
    u32 tiles = CEIL_DIV(t.n_rows, (u32)QUERY_ROWS), tile = block / N_HEADS;
    t.row = tile < tiles ? (tiles - 1 - tile) * QUERY_ROWS : t.n_rows;
    t.last = t.position + MIN(t.row + QUERY_ROWS, t.n_rows) - 1;
    u32 first = t.position + t.row;
    t.first_tile = WINDOW > 0 && first + 1 > WINDOW ? (first + 1 - WINDOW) / KEY_TOKENS : 0;
    t.end_tile = t.last / KEY_TOKENS + 1;
    return t;
}

// The numbers of a tile's pages: loaded a tile ahead, so that no copy waits for them.
struct KvPages {
    u32 page[KEY_PAGES];
};
DEVICE KvPages load_kv_pages(const PrefillAttentionArgs &a, const AttentionTask &t, u32 tile) {
    const u32 *pages = a.span->pages;
    KvPages out;
#pragma unroll
    for (u32 p = 0; p < KEY_PAGES; p++) {
        u32 i = tile * KEY_PAGES + p;
        out.page[p] = i * KV_PAGE <= t.last ? pages[i] : 0;
    }
    return out;
}

// Sets off the copies of a tile's pages; those after the last position stay away.
DEVICE void fetch_kv_tile(const PrefillAttentionArgs &a, const AttentionTask &t, u32 tile,
                          const KvPages &pages, u8 *slot) {
    enum : u32 { KEY_UNITS = HEAD_DIM / 8, PAGE_UNITS = 2 * KV_PAGE * HEAD_DIM / 8 }; // of 16 bytes
#pragma unroll
    for (u32 p = 0; p < KEY_PAGES; p++) {
        if ((tile * KEY_PAGES + p) * KV_PAGE > t.last) break;
        const f16 *from = kv_key(a.kv, pages.page[p], t.kv_head, 0); // its values follow
        for (u32 unit = thread_index(); unit < PAGE_UNITS; unit += ATTENTION_WARPS * WARP) {
            u32 token = unit / KEY_UNITS, value = unit - PAGE_UNITS / 2; // values: two units a dimension
            u32 to = unit < PAGE_UNITS / 2
                         ? (p * KV_PAGE + token) * KEY_STRIDE * 2 + unit % KEY_UNITS * 16
                         : VALUES_AT + (value / 2 * VALUE_STRIDE + p * KV_PAGE + value % 2 * 8) * 2;
            copy_async_16(slot + to, from + unit * 8);
        }
    }
    copy_async_commit();
}

// Zeroes the values of tokens past the last: what a page held before may be anything, and 0 times infinity is
// not 0.
DEVICE void clear_tile_after(u8 *slot, u32 first_unused) {
    f16 *values = (f16 *)(slot + VALUES_AT);
    for (u32 i = thread_index(); i < HEAD_DIM * KEY_TOKENS; i += ATTENTION_WARPS * WARP) {
        if (i % KEY_TOKENS >= first_unused) values[i / KEY_TOKENS * VALUE_STRIDE + i % KEY_TOKENS] = 0;
    }
}

// A warp's 16 rows. Lane 4 g + c: rows g and g + 8.
struct QueryRows {
    u32 q[Q_STEPS][4];
    float out[OUT_GROUPS][4]; // as mma_f16 has them: dimensions 8 j + 2 c, + 1 of row g, then of row g + 8
    float top[2];             // largest score so far: the same in all c
    float sum[2];             // of this lane's tokens
    u32 position[2];
};
DEVICE void load_query_rows(const PrefillAttentionArgs &a, const AttentionTask &t, QueryRows *r) {
    u32 row = t.row + warp_index() * 16 + lane_index() / 4, col = lane_index() % 4 * 2;
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        u32 this_row = row + i % 2 * 8;
        const f16 *from = a.q + ((u64)this_row * N_HEADS + t.head) * HEAD_DIM + col + i / 2 * 8;
#pragma unroll
        for (u32 s = 0; s < Q_STEPS; s++) {
            r->q[s][i] = this_row < t.n_rows ? load_shared_data((const u32 *)(from + s * 16)) : 0;
        }
    }
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
#ifdef HAS_SINKS
        r->top[i] = a.sinks[t.head] * 1.44269504089f;
        r->sum[i] = lane_index() % 4 == 0 ? 1.0f : 0.0f; // the four lanes' sums are added at the end
#else
        r->top[i] = -INFINITY_F32;
        r->sum[i] = 0;
#endif
        r->position[i] = t.position + row + i * 8;
    }
#pragma unroll
    for (u32 j = 0; j < OUT_GROUPS; j++) {
        r->out[j][0] = r->out[j][1] = r->out[j][2] = r->out[j][3] = 0;
    }
}

// Scores of a tile's tokens: s[j] those of tokens 8 j + 2 c, + 1 for row g, then for row g + 8.
DEVICE void score_tile(const QueryRows &r, const u8 *slot, float s[KEY_GROUPS][4]) {
    u32 lane = lane_index();
    const u8 *keys = slot + ((lane / 16 * 8 + lane % 8) * KEY_STRIDE + lane / 8 % 2 * 8) * 2;
#pragma unroll
    for (u32 j = 0; j < KEY_GROUPS; j++) {
        s[j][0] = s[j][1] = s[j][2] = s[j][3] = 0;
    }
#pragma unroll
    for (u32 k = 0; k < Q_STEPS; k++) {
#pragma unroll
        for (u32 j = 0; j < KEY_GROUPS; j += 2) {
            u32 b[4];
            load_matrix_4(b, keys + (j * 8 * KEY_STRIDE + k * 16) * 2);
            mma_f16(s[j], r.q[k], b);
            mma_f16(s[j + 1], r.q[k], b + 2);
        }
    }
}

#ifdef SOFT_CAP
DEVICE void cap_tile(float s[KEY_GROUPS][4]) {
#pragma unroll
    for (u32 i = 0; i < KEY_GROUPS * 4; i++) {
        s[i / 4][i % 4] = cap_score(s[i / 4][i % 4]);
    }
}
#endif

DEVICE void hide_tokens(const QueryRows &r, u32 first_token, float s[KEY_GROUPS][4]) {
#pragma unroll
    for (u32 i = 0; i < KEY_GROUPS * 4; i++) {
        u32 token = first_token + i / 4 * 8 + lane_index() % 4 * 2 + i % 2, position = r.position[i % 4 / 2];
        if (token > position || (WINDOW > 0 && token + WINDOW <= position)) s[i / 4][i % 4] = -INFINITY_F32;
    }
}

// Scores become weights 2^(score - largest), and what was summed before is put to the same scale.
DEVICE void weigh_tile(QueryRows *r, float s[KEY_GROUPS][4]) {
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        float top = r->top[i], sum = 0;
#pragma unroll
        for (u32 j = 0; j < KEY_GROUPS; j++) {
            top = max_f32(top, max_f32(s[j][2 * i], s[j][2 * i + 1]));
        }
        top = max_f32(top, shuffle_xor(top, 1));
        top = max_f32(top, shuffle_xor(top, 2));
        float base = top == -INFINITY_F32 ? 0.0f : top; // nothing seen yet
        float keep = exp2_fast(r->top[i] - base);
#pragma unroll
        for (u32 j = 0; j < KEY_GROUPS; j++) {
            s[j][2 * i] = exp2_fast(s[j][2 * i] - base);
            s[j][2 * i + 1] = exp2_fast(s[j][2 * i + 1] - base);
            sum += s[j][2 * i] + s[j][2 * i + 1];
        }
        r->sum[i] = fma_f32(r->sum[i], keep, sum);
        r->top[i] = top;
#pragma unroll
        for (u32 j = 0; j < OUT_GROUPS; j++) {
            r->out[j][2 * i] *= keep;
            r->out[j][2 * i + 1] *= keep;
        }
    }
}

DEVICE void add_values(QueryRows *r, const u8 *slot, const float p[KEY_GROUPS][4]) {
    u32 lane = lane_index();
    const u8 *values = slot + VALUES_AT + ((lane / 16 * 8 + lane % 8) * VALUE_STRIDE + lane / 8 % 2 * 8) * 2;
#pragma unroll
    for (u32 k = 0; k < KEY_PAGES; k++) {
        u32 a[4] = {pack_f16(p[2 * k][0], p[2 * k][1]), pack_f16(p[2 * k][2], p[2 * k][3]),
                    pack_f16(p[2 * k + 1][0], p[2 * k + 1][1]), pack_f16(p[2 * k + 1][2], p[2 * k + 1][3])};
#pragma unroll
        for (u32 j = 0; j < OUT_GROUPS; j += 2) {
            u32 b[4];
            load_matrix_4(b, values + (j * 8 * VALUE_STRIDE + k * KV_PAGE) * 2);
            mma_f16(r->out[j], a, b);
            mma_f16(r->out[j + 1], a, b + 2);
        }
    }
}

DEVICE void store_query_rows(const PrefillAttentionArgs &a, const AttentionTask &t, QueryRows *r) {
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        float sum = r->sum[i];
        sum += shuffle_xor(sum, 1);
        sum += shuffle_xor(sum, 2);
        float inverse = reciprocal_fast(sum);
        u32 row = r->position[i] - t.position;
        bool upper = lane_index() & 1;
#pragma unroll
        for (u32 j = 0; j < OUT_GROUPS; j++) {
            // Lane c has columns 2 c and 2 c + 1; those two apart are neighbours in memory.
            ColumnPair v = exchange_columns(r->out[j][2 * i] * inverse, r->out[j][2 * i + 1] * inverse, 1);
            u32 col = t.head * HEAD_DIM + j * 8 + lane_index() % 4 / 2 * 4 + upper;
            if (row < t.n_rows) activation_store(a.out, row, col, v.first, v.second);
        }
    }
}

DEVICE void prefill_attention_run(const PrefillAttentionArgs &a, u32 block, u8 *shared) {
    AttentionTask t = attention_task(a.span, block);
    if (t.row >= t.n_rows) return;
    QueryRows r;
    fetch_kv_tile(a, t, t.first_tile, load_kv_pages(a, t, t.first_tile),
                  shared + t.first_tile % KV_TILES * KV_TILE_BYTES);
    KvPages pages = load_kv_pages(a, t, t.first_tile + 1);
    load_query_rows(a, t, &r);
    u32 warp_first = t.position + t.row + warp_index() * 16;
    for (u32 tile = t.first_tile; tile < t.end_tile; tile++) {
        u8 *slot = shared + tile % KV_TILES * KV_TILE_BYTES;
        u32 first = tile * KEY_TOKENS;
        copy_async_wait<0>();
        block_sync(); // this tile is here, and the one before it has been used
        if (KV_TILES > 1) {
            fetch_kv_tile(a, t, tile + 1, pages, shared + (tile + 1) % KV_TILES * KV_TILE_BYTES);
            pages = load_kv_pages(a, t, tile + 2);
        }
        if (t.last < first + KEY_TOKENS - 1) {
            clear_tile_after(slot, t.last - first + 1);
            block_sync();
        }
        if (first <= warp_first + 15) { // else the warp sees none of it
            float s[KEY_GROUPS][4];
            score_tile(r, slot, s);
#ifdef SOFT_CAP
            cap_tile(s);
#endif
            bool sees_all =
                first + KEY_TOKENS - 1 <= warp_first && (WINDOW == 0 || first + WINDOW > warp_first + 15);
            if (!sees_all) hide_tokens(r, first, s);
            weigh_tile(&r, s);
            add_values(&r, slot, s);
        }
        if (KV_TILES == 1) {
            block_sync();
            fetch_kv_tile(a, t, tile + 1, pages, shared);
            pages = load_kv_pages(a, t, tile + 2);
        }
    }
    copy_async_wait<0>();
    store_query_rows(a, t, &r);
}

EXPORTED StageInfo prefill_attention_info = {
    ATTENTION_WARPS * 32, {QUERY_TILES * N_HEADS, 1}, PREFILL_ATTENTION_SHARED_BYTES};

KERNEL(ATTENTION_WARPS * 32, 2) prefill_attention(PrefillAttentionArgs a) {
    stage_launch_next();
    stage_wait();
    prefill_attention_run(a, block_index(), shared_memory());
}
