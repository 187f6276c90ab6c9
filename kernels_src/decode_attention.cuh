// Decode: attention of one token over its cache, each split of the positions by itself.
//
//     part[split][h] = softmax(q[h] K^T) V over the split's positions
//     part_weight[split][h] = {m, l}
// with m the largest score and l the sum of 2^(score - m) (scores are in powers of two: q is scaled so).
// decode_output puts the splits together (flash decoding: Dao, Haziza, Massa, Sizov 2023; online softmax:
// Milakov, Gimelshein 2018).
//
// Operation: ATTENTION. Grid: (SPLITS_MAX, N_KV_HEADS) blocks; those past the sequence's splits have nothing
// to do. The warps of a block take its pages in turn, a page at a time, and all heads that share the keys at
// once, on the tensor cores:
//     S^T [16 tokens][8 heads] = K [16][HEAD_DIM] q^T
//     O^T [HEAD_DIM][8] += V^T [HEAD_DIM][16] P^T [16][8]
// so that 7 or 8 of 8 columns are used where 4 of 16 rows would be the other way round. Lane i = 4 r + c. The
// order of dimensions in a product is free, and so is that of tokens, which lets a lane load 16 consecutive
// bytes of keys and 8 of values. The warps' results are put together at the end in their order. Pages but the
// one being written are loaded before the wait. Defines: N_HEADS, N_KV_HEADS, HEAD_DIM (a multiple of 16),
// WARPS, attention_splits.cuh's; SOFT_CAP (soft_cap.cuh). Needs kv_cache.cuh.
#if !defined(N_HEADS) || !defined(N_KV_HEADS) || !defined(HEAD_DIM) || !defined(WARPS) || HEAD_DIM % 16
#error "N_HEADS, N_KV_HEADS, HEAD_DIM, WARPS"
#endif
#define THREADS (WARPS * 32)

enum : u32 {
    GROUP = N_HEADS / N_KV_HEADS, // heads that share keys and values
    HEAD_TILES = CEIL_DIV(GROUP, 8),
    K_LOADS = CEIL_DIV(HEAD_DIM, 32), // half of the last one is zeros where it is no multiple of 32
    V_TILES = HEAD_DIM / 16,

    // Shared memory: per warp and head, the result, the largest score and the sum.
    OUT_STRIDE = HEAD_DIM + 4, // of a head: 4 to spread the banks
    OUT_AT = 0,
    TOP_AT = WARPS * HEAD_TILES * 8 * OUT_STRIDE * 4,
    SUM_AT = TOP_AT + WARPS * HEAD_TILES * 8 * 4,
    ATTENTION_SHARED_BYTES = SUM_AT + WARPS * HEAD_TILES * 8 * 4,
};
static_assert(GROUP * N_KV_HEADS == N_HEADS, "heads share keys and values evenly");

// One page's keys and values of one head, as the lane's parts of the operands.
struct KvPage {
    uint4 k[K_LOADS][2]; // tokens t and t + 2, dimensions 32 j + 8 c …
    uint2 v[V_TILES][2]; // dimensions 16 j + r and + 8, tokens 4 c …
};

// Whether the lane's dimensions of a load are there.
DEVICE bool has_dims(u32 load) {
    return HEAD_DIM % 32 == 0 || load * 32 + lane_index() % 4 * 8 < HEAD_DIM;
}

// The token, within its page, in row r of the first eight rows of S^T (the second eight have t + 2).
DEVICE u32 token_of_row(u32 r) {
    return r / 2 * 4 + r % 2;
}

struct AttentionState {
    AttentionRange range;
    u32 position;
    u32 page, end_page; // this warp's next page, the split's end
    u32 number;         // that page's number in the cache
    bool loaded;        // kv holds that page
    KvPage kv;
};

DEVICE void load_page(const AttentionArgs &a, u32 kv_head, u32 number, KvPage *kv) {
    u32 r = lane_index() / 4, c = lane_index() % 4;
    const f16 *row = kv_key(a.kv, number, kv_head, token_of_row(r)) + c * 8;
    const f16 *values = kv_value(a.kv, number, kv_head, c * 4) + r * VALUE_DIM_STRIDE;
#pragma unroll
    for (u32 j = 0; j < K_LOADS; j++) {
        kv->k[j][0] = kv->k[j][1] = {0, 0, 0, 0};
        if (!has_dims(j)) continue;
        kv->k[j][0] = load_shared_data((const uint4 *)(row + j * 32));
        kv->k[j][1] = load_shared_data((const uint4 *)(row + 2 * KEY_TOKEN_STRIDE + j * 32));
    }
#pragma unroll
    for (u32 j = 0; j < V_TILES; j++) {
        kv->v[j][0] = load_shared_data((const uint2 *)(values + j * 16 * VALUE_DIM_STRIDE));
        kv->v[j][1] = load_shared_data((const uint2 *)(values + (j * 16 + 8) * VALUE_DIM_STRIDE));
    }
}

// Brings a page into the L2 before it is wanted: a warp's later pages, and the one that is still being
// written (all of it but the new entry comes from device memory like the others).
DEVICE void prefetch_page(const AttentionArgs &a, u32 kv_head, u32 number) {
    const f16 *keys = kv_key(a.kv, number, kv_head, 0); // its values follow
    for (u32 i = lane_index() * 64; i < 2 * KV_TILE_HALVES(HEAD_DIM); i += WARP * 64) {
        prefetch_l2(keys + i);
    }
}

// Zeroes the values of tokens past the last: what a page held before may be anything, and 0 times infinity is
// not 0.
DEVICE void clear_values_after(KvPage *kv, u32 last) {
    u32 t = lane_index() % 4 * 4;
    u32 low = (t <= last ? 0xFFFFu : 0u) | (t + 1 <= last ? 0xFFFF0000u : 0u);
    u32 high = (t + 2 <= last ? 0xFFFFu : 0u) | (t + 3 <= last ? 0xFFFF0000u : 0u);
#pragma unroll
    for (u32 j = 0; j < V_TILES; j++) {
        for (u32 i = 0; i < 2; i++) {
            kv->v[j][i].x &= low;
            kv->v[j][i].y &= high;
        }
    }
}

DEVICE void decode_attention_prepare(const AttentionArgs &a, u32 split, u32 kv_head, AttentionState *s) {
    s->position = a.row->position;
    s->range = attention_range(s->position);
    s->page = s->range.first_page + split * s->range.split_pages + warp_index();
    s->end_page = MIN(s->range.first_page + (split + 1) * s->range.split_pages, s->range.end_page);
    // Earlier steps wrote every page but the last one, which this step's QKV stage is still writing.
    s->number = s->page < s->end_page ? a.row->pages[s->page] : 0;
    s->loaded = s->page < s->end_page && s->page + 1 < s->range.end_page;
    if (s->loaded) load_page(a, kv_head, s->number, &s->kv);
    for (u32 page = s->page + (s->loaded ? WARPS : 0); page < s->end_page; page += WARPS) {
        prefetch_page(a, kv_head, a.row->pages[page]);
    }
}

// What a warp has gathered for eight heads. Lane 4 r + c: dimensions 16 j + r and + 8 of heads 2c and 2c + 1.
struct HeadTile {
    float out[V_TILES][4];
    float top[2]; // largest score so far of heads 2c, 2c + 1: the same in all r
    float sum[2]; // of this lane's tokens
};

// Queries as operand: head r of the tile, dimensions 32 j + 8 c …; zeros past the group's heads.
DEVICE void load_queries(const AttentionArgs &a, u32 kv_head, u32 tile, uint4 q[K_LOADS]) {
    u32 r = tile * 8 + lane_index() / 4, c = lane_index() % 4;
#pragma unroll
    for (u32 j = 0; j < K_LOADS; j++) {
        const f16 *from = a.q + (kv_head * GROUP + r) * HEAD_DIM + j * 32 + c * 8;
        q[j] = r < GROUP && has_dims(j) ? load_shared_data((const uint4 *)from) : uint4{0, 0, 0, 0};
    }
}

// Scores of the page's tokens: s[0], s[1] token t of heads 2c, 2c + 1; s[2], s[3] token t + 2.
DEVICE void score_page(const KvPage &kv, const uint4 q[K_LOADS], float s[4]) {
    s[0] = s[1] = s[2] = s[3] = 0;
#pragma unroll
    for (u32 j = 0; j < K_LOADS; j++) {
        u32 first[4] = {kv.k[j][0].x, kv.k[j][1].x, kv.k[j][0].y, kv.k[j][1].y};
        u32 second[4] = {kv.k[j][0].z, kv.k[j][1].z, kv.k[j][0].w, kv.k[j][1].w};
        u32 q_first[2] = {q[j].x, q[j].y}, q_second[2] = {q[j].z, q[j].w};
        mma_f16(s, first, q_first);
        mma_f16(s, second, q_second);
    }
}

DEVICE void add_page(const KvPage &kv, const uint4 q[K_LOADS], bool sees_first, bool sees_second,
                     HeadTile *h) {
    float s[4];
    score_page(kv, q, s);
#ifdef SOFT_CAP
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        s[i] = cap_score(s[i]);
    }
#endif
    if (!sees_first) s[0] = s[1] = -INFINITY_F32;
    if (!sees_second) s[2] = s[3] = -INFINITY_F32;
    float p[4], keep[2];
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        float top = max_f32(s[i], s[2 + i]);
        for (u32 m = 4; m < 32; m *= 2) {
            top = max_f32(top, shuffle_xor(top, m));
        }
        top = max_f32(top, h->top[i]);
        keep[i] = exp2_fast(h->top[i] - top);
        p[i] = exp2_fast(s[i] - top);
        p[2 + i] = exp2_fast(s[2 + i] - top);
        h->sum[i] = fma_f32(h->sum[i], keep[i], p[i] + p[2 + i]);
        h->top[i] = top;
    }
    u32 weights[2] = {transpose_matrix(pack_f16(p[0], p[1])), transpose_matrix(pack_f16(p[2], p[3]))};
#pragma unroll
    for (u32 j = 0; j < V_TILES; j++) {
        float *o = h->out[j];
        o[0] *= keep[0], o[1] *= keep[1], o[2] *= keep[0], o[3] *= keep[1];
        u32 v[4] = {kv.v[j][0].x, kv.v[j][1].x, kv.v[j][0].y, kv.v[j][1].y};
        mma_f16(o, v, weights);
    }
}

// The warp's result to shared memory.
DEVICE void store_tile(u8 *shared, u32 tile, HeadTile *h) {
    u32 r = lane_index() / 4, c = lane_index() % 4;
    u32 head = (warp_index() * HEAD_TILES + tile) * 8 + 2 * c;
    float *out = (float *)(shared + OUT_AT) + head * OUT_STRIDE;
#pragma unroll
    for (u32 j = 0; j < V_TILES; j++) {
        out[j * 16 + r] = h->out[j][0];
        out[OUT_STRIDE + j * 16 + r] = h->out[j][1];
        out[j * 16 + r + 8] = h->out[j][2];
        out[OUT_STRIDE + j * 16 + r + 8] = h->out[j][3];
    }
    for (u32 i = 0; i < 2; i++) {
        for (u32 m = 4; m < 32; m *= 2) {
            h->sum[i] += shuffle_xor(h->sum[i], m);
        }
        if (r == 0) {
            ((float *)(shared + TOP_AT))[head + i] = h->top[i];
            ((float *)(shared + SUM_AT))[head + i] = h->sum[i];
        }
    }
}

// The block's result from its warps', two dimensions a thread at a time.
DEVICE void combine_warps(const AttentionArgs &a, u32 split, u32 kv_head, const u8 *shared) {
    const float *out = (const float *)(shared + OUT_AT);
    const float *top = (const float *)(shared + TOP_AT), *sum = (const float *)(shared + SUM_AT);
#pragma unroll
    for (u32 turn = 0; turn < CEIL_DIV(GROUP * HEAD_DIM / 2, THREADS); turn++) {
        u32 i = turn * THREADS + thread_index();
        if (i >= GROUP * HEAD_DIM / 2) break;
        u32 head = i / (HEAD_DIM / 2), dim = i % (HEAD_DIM / 2) * 2;
        float largest = top[head], total = 0, v[2] = {0, 0};
#pragma unroll
        for (u32 w = 1; w < WARPS; w++) {
            largest = max_f32(largest, top[w * HEAD_TILES * 8 + head]);
        }
#pragma unroll
        for (u32 w = 0; w < WARPS; w++) {
            u32 at = w * HEAD_TILES * 8 + head;
            float scale = exp2_fast(top[at] - largest);
            float2 o = *(const float2 *)(out + at * OUT_STRIDE + dim);
            total = fma_f32(sum[at], scale, total);
            v[0] = fma_f32(o.x, scale, v[0]);
            v[1] = fma_f32(o.y, scale, v[1]);
        }
        u32 h = split * N_HEADS + kv_head * GROUP + head;
        float inverse = reciprocal_fast(total);
        *(u32 *)(a.part + (u64)h * HEAD_DIM + dim) = pack_f16(v[0] * inverse, v[1] * inverse);
        if (dim == 0) ((float2 *)a.part_weight)[h] = {largest, total};
    }
}

DEVICE void decode_attention_run(const AttentionArgs &a, u32 split, u32 kv_head, u8 *shared,
                                 AttentionState *s) {
    u32 t = token_of_row(lane_index() / 4);
    uint4 q[HEAD_TILES][K_LOADS];
    HeadTile heads[HEAD_TILES];
#pragma unroll
    for (u32 tile = 0; tile < HEAD_TILES; tile++) {
        load_queries(a, kv_head, tile, q[tile]);
        heads[tile] = {};
        heads[tile].top[0] = heads[tile].top[1] = -INFINITY_F32;
    }
    for (; s->page < s->end_page; s->page += WARPS) {
        if (!s->loaded) load_page(a, kv_head, s->number, &s->kv);
        s->loaded = false;
        if (s->page + WARPS < s->end_page) s->number = a.row->pages[s->page + WARPS];
        u32 first = s->page * KV_PAGE;
        if (s->position < first + KV_PAGE - 1) clear_values_after(&s->kv, s->position - first);
        bool sees_first = first + t <= s->position && first + t >= s->range.first_position;
        bool sees_second = first + t + 2 <= s->position && first + t + 2 >= s->range.first_position;
#pragma unroll
        for (u32 tile = 0; tile < HEAD_TILES; tile++) {
            add_page(s->kv, q[tile], sees_first, sees_second, &heads[tile]);
        }
    }
#pragma unroll
    for (u32 tile = 0; tile < HEAD_TILES; tile++) {
        store_tile(shared, tile, &heads[tile]); // zeros with weight 0 of a warp without pages
    }
    block_sync();
    combine_warps(a, split, kv_head, shared);
}

EXPORTED StageInfo decode_attention_info = {THREADS, {SPLITS_MAX, N_KV_HEADS}, ATTENTION_SHARED_BYTES};

KERNEL(THREADS, 1) decode_attention(AttentionArgs a) {
    AttentionState s;
    stage_launch_next();
    decode_attention_prepare(a, block_index(), block_index_y(), &s);
    if (block_index() >= s.range.n_splits) return;
    stage_wait();
    decode_attention_run(a, block_index(), block_index_y(), shared_memory(), &s);
}
