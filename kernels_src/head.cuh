// The head: logits of those rows of a batch that want them, and the best one of each block's.
//
//     logits[i] = W h + b, capped where the model says so, for i < n_logits; h = in[i]
//     best[i][block] = the weight row with the largest logit after the repetition penalty of the row's slot,
//                      the lowest id among equals
// NORM_INPUT (product_few.cuh): h = norm(x[logits_rows[i]]).
//
// Operations: (RMS_NORM or LAYER_NORM,) HEAD. Grid and order of sums: product.cuh, with either body; a unit
// is a band. Needs logits.cuh, soft_cap.cuh. Defines: STAGE_HEAD, D_MODEL, N_VOCAB, FORMAT_0, the body's;
// SOFT_CAP.
#ifndef N_VOCAB
#error "N_VOCAB"
#endif

struct HeadBands {
    const u8 *weight;
    DEVICE u32 format(u32, u32) const {
        return 0;
    }
    DEVICE const u8 *tiles(u32 unit, u32) const {
        return band_tiles<FORMAT_0>(weight, unit);
    }
    DEVICE const float *factors(u32 unit, u32) const {
        return band_factors<FORMAT_0>(weight, N_VOCAB, unit);
    }
};

// The repetition penalty of a row: 1 for none.
struct RowPenalty {
    const u32 *seen;
    float penalty;
    u32 unused;
};
enum : u32 {
    BEST_AT = ROUND_UP(PRODUCT_SHARED_BYTES, 16),                       // [PRODUCT_WARPS][MAX_ROWS] HeadBest
    PENALTY_AT = BEST_AT + PRODUCT_WARPS * MAX_ROWS * sizeof(HeadBest), // [MAX_ROWS] RowPenalty
    HEAD_SHARED_BYTES = PENALTY_AT + MAX_ROWS * sizeof(RowPenalty),
};

struct HeadState {
    HeadBands bands;
    Product product;
};

DEVICE void head_prepare(const ProductArgs &a, u32 block, u8 *shared, HeadState *s) {
    s->bands = {a.weight[0]};
    product_prepare(a, block, shared, s->bands, &s->product);
}

// The rows' penalties, and each warp's bests, none yet.
DEVICE void head_begin(const ProductArgs &a, u8 *shared, u32 n_rows) {
    RowPenalty *rows = (RowPenalty *)(shared + PENALTY_AT);
    for (u32 i = thread_index(); i < n_rows; i += PRODUCT_WARPS * WARP) {
        u32 row = load_shared_data(a.logits_rows + i);
        const SlotState *slot = a.slots + load_shared_data(&a.rows[row].slot);
        rows[i] = {slot->seen, load_shared_data(&slot->repetition_penalty), 0};
    }
    HeadBest *best = (HeadBest *)(shared + BEST_AT) + warp_index() * MAX_ROWS;
    for (u32 i = lane_index(); i < n_rows; i += WARP) {
        best[i] = {-INFINITY_F32, -1, 0, 0};
    }
    warp_sync();
}

// Four lanes a row, four weight rows each.
DEVICE void head_finish(const ProductArgs &a, u8 *shared, u32 unit, u32 first_row, u32 n_rows,
                        const float *sums) {
    HeadBest *best = (HeadBest *)(shared + BEST_AT) + warp_index() * MAX_ROWS;
    const RowPenalty *rows = (const RowPenalty *)(shared + PENALTY_AT);
    u32 r = lane_index() % 4 * 4, id = unit * BAND_ROWS + r;
    for (u32 first = 0; first < n_rows; first += 8) {
        u32 i = first + lane_index() / 4;
        bool any = i < n_rows;
        HeadBest b = {-INFINITY_F32, -1, 0, 0};
        if (any) {
            RowPenalty row = rows[first_row + i];
            LogitRules rules = {row.penalty, 0, row.seen};
            float *logits = a.out + (u64)(first_row + i) * N_VOCAB, v[4];
#pragma unroll
            for (u32 k = 0; k < 4; k++) {
                v[k] = 0;
                if (id + k >= N_VOCAB) break;
                v[k] = sums[i * SUM_STRIDE + r + k];
                if (a.bias[0] != 0) v[k] += a.bias[0][id + k];
#ifdef SOFT_CAP
                v[k] = soft_cap(v[k], SOFT_CAP);
#endif
                if (N_VOCAB % 4) logits[id + k] = v[k];
                best_take(&b, penalise_logit(rules, id + k, v[k]), (i32)(id + k));
            }
            // (A store of 16 bytes instead of four of 4: many rows' logits are more than their products.)
            if (N_VOCAB % 4 == 0 && id < N_VOCAB) *(float4 *)(logits + id) = {v[0], v[1], v[2], v[3]};
        }
        for (u32 m = 1; m < 4; m *= 2) {
            HeadBest other = {shuffle_xor(b.value, m), shuffle_xor(b.token, m), shuffle_xor(b.n_bad, m), 0};
            best_merge(&b, other);
        }
        if (any && lane_index() % 4 == 0) best_merge(&best[first_row + i], b);
    }
    warp_sync();
}

// A warp a row.
DEVICE void head_end(const ProductArgs &a, u32 block, u8 *shared, u32 n_rows) {
    const HeadBest *best = (const HeadBest *)(shared + BEST_AT);
    for (u32 i = warp_index(); i < n_rows; i += PRODUCT_WARPS) {
        HeadBest b = {-INFINITY_F32, -1, 0, 0};
        if (lane_index() < PRODUCT_WARPS) b = best[lane_index() * MAX_ROWS + i];
        best_of_warp(&b);
        if (lane_index() == 0) a.best[(u64)i * PRODUCT_GRID + block] = b;
    }
}

DEVICE void head_run(const ProductArgs &a, u32 block, u8 *shared, HeadState *s) {
    u32 n_rows = MIN(batch_rows(a), (u32)MAX_ROWS);
    if (product_multiplies()) {
        head_begin(a, shared, n_rows);
        product_meet(shared, &s->product);
    }
    product_run(a, block, shared, s->bands, &s->product,
                [&](u32 unit, u32 first_row, u32 n, const float *sums) {
                    head_finish(a, shared, unit, first_row, n, sums);
                });
    if (product_multiplies()) {
        product_meet(shared, &s->product);
        head_end(a, block, shared, n_rows);
    }
}

EXPORTED StageInfo head_info = PRODUCT_INFO(HEAD_SHARED_BYTES);

PRODUCT_KERNEL head(ProductArgs a) {
    HeadState s;
    stage_launch_next();
    head_prepare(a, block_index(), shared_memory(), &s);
    stage_wait();
    head_run(a, block_index(), shared_memory(), &s);
}
