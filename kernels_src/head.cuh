// The head: logits of those rows of a batch that want them, and the best one of each block's.
//
//     logits[i] = LOGIT_SCALE (W h + b), capped where the model says so, for i < n_logits; h = in[i]
//     best[i][block] = the weight row with the largest logit after the repetition penalty of the row's slot,
//                      the lowest id among equals
// NORM_INPUT (product_few.cuh): h = norm(x[logits_rows[i]]).
//
// Operations: (RMS_NORM or LAYER_NORM,) HEAD. Grid and order of sums: product.cuh, with either body; a unit
// is a band. Needs logits.cuh, soft_cap.cuh. Defines: STAGE_HEAD, D_MODEL, N_VOCAB, FORMAT_0, the body's;
// SOFT_CAP, LOGIT_SCALE.
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

enum : u32 {
    BEST_AT = ROUND_UP(PRODUCT_SHARED_BYTES, 16),                       // [PRODUCT_WARPS][MAX_ROWS] HeadBest
    PENALTY_AT = BEST_AT + PRODUCT_WARPS * MAX_ROWS * sizeof(HeadBest), // [MAX_ROWS] LogitRules
    HEAD_SHARED_BYTES = PENALTY_AT + MAX_ROWS * sizeof(LogitRules),
};

struct HeadState {
    HeadBands bands;
    Product product;
};

// The rows' penalties, and each warp's bests, none yet. Slots and their parameters are the host's, so this is
// before stage_wait: three loads that wait for each other.
DEVICE void head_begin(const ProductArgs &a, u8 *shared, u32 n_rows) {
    LogitRules *rows = (LogitRules *)(shared + PENALTY_AT);
    for (u32 i = thread_index(); i < n_rows; i += PRODUCT_WARPS * WARP) {
        u32 row = load_shared_data(a.logits_rows + i);
        const SlotState *slot = a.slots + load_shared_data(&a.rows[row].slot);
        rows[i] = logit_rules(load_shared_data(&slot->repetition_penalty), slot->seen);
    }
    HeadBest *best = (HeadBest *)(shared + BEST_AT) + warp_index() * MAX_ROWS;
    for (u32 i = lane_index(); i < n_rows; i += WARP) {
        best[i] = {-INFINITY_F32, -1, 0, 0};
    }
}

DEVICE void head_prepare(const ProductArgs &a, u32 block, u8 *shared, HeadState *s) {
    s->bands = {a.weight[0]};
    product_prepare(a, block, shared, s->bands, &s->product);
    if (product_multiplies()) head_begin(a, shared, MIN(batch_rows(a), (u32)MAX_ROWS));
}

#ifdef PRODUCT_MANY
// Whether some row has a penalty: the same in all lanes.
DEVICE bool any_penalty(const u8 *shared, u32 n_rows) {
    const LogitRules *rows = (const LogitRules *)(shared + PENALTY_AT);
    bool any = false;
    for (u32 i = lane_index(); i < n_rows; i += WARP) {
        any = any || rows[i].penalty != 1.0f;
    }
    return ballot_lanes(any) != 0;
}

// Values that merge: a row's best of some weight rows.
struct RowBest {
    float value;
    i32 token;
};
DEVICE void row_best_merge(RowBest *best, float value, i32 token) {
    if (is_better(value, token, best->value, best->token)) *best = {value, token};
}

// product_many.cuh: a lane has weight rows g and g + 8 of rows 8 i + 2 c and 8 i + 2 c + 1. Of each row the
// lanes of all g have a part: in three turns they give each other half of what they have, and one is left
// with the row's best.
struct HeadFinish {
    const ProductArgs &a;
    u8 *shared;
    bool penalties; // some row has one

    struct Ahead {};

    DEVICE void foresee(u32, u32, u32, u32) const {
    }

    DEVICE Ahead ahead(u32, u64, u32) const {
        return {};
    }

    // The lane's two logits of a row, stored.
    DEVICE void logits_of(u32 row, u32 id, float v[2]) const {
        float *logits = a.out + (u64)row * N_VOCAB + id;
#pragma unroll
        for (u32 k = 0; k < 2; k++) {
            if (id + k * 8 >= N_VOCAB) break;
            if (a.bias[0] != 0) v[k] += a.bias[0][id + k * 8];
#ifdef LOGIT_SCALE
            v[k] *= LOGIT_SCALE;
#endif
#ifdef SOFT_CAP
            v[k] = soft_cap(v[k], SOFT_CAP);
#endif
            logits[k * 8] = v[k];
        }
    }

    DEVICE RowBest best_of(u32 row, u32 id, float v[2]) const {
        if (penalties) {
            LogitRules rules = ((const LogitRules *)(shared + PENALTY_AT))[row];
#pragma unroll
            for (u32 k = 0; k < 2; k++) {
                if (id + k * 8 < N_VOCAB) v[k] = penalise_logit(rules, id + k * 8, v[k]);
            }
        }
        RowBest best = {-INFINITY_F32, -1};
        if (id < N_VOCAB && v[0] > best.value) best = {v[0], (i32)id};
        if (id + 8 < N_VOCAB && v[1] > best.value) best = {v[1], (i32)id + 8};
        return best;
    }

    template <u32 groups>
    DEVICE void lanes(u32 unit, u64 first, u32 n_rows, const LaneSums<groups> &sums, const Ahead &) const {
        u32 first_row = (u32)first;
        static_assert(groups == 2, "four rows a lane");
        HeadBest *bests = (HeadBest *)(shared + BEST_AT) + warp_index() * MAX_ROWS + first_row;
        u32 g = lane_index() / 4, c = lane_index() % 4, id = unit * BAND_ROWS + g;
        RowBest best[4];
#pragma unroll
        for (u32 r = 0; r < 4; r++) {
            u32 row = r / 2 * 8 + c * 2 + r % 2;
            float v[2] = {sums.of[0][r / 2][r % 2], sums.of[0][r / 2][r % 2 + 2]};
            best[r] = {-INFINITY_F32, -1};
            if (row >= n_rows) continue;
            logits_of(first_row + row, id, v);
            u32 n_bad = (v[0] != v[0] && id < N_VOCAB) + (v[1] != v[1] && id + 8 < N_VOCAB);
            if (n_bad > 0) atomic_add(&bests[row].n_bad, n_bad);
            best[r] = best_of(first_row + row, id, v);
        }
        // Rows 2 h and 2 h + 1 of the four, then row 2 h + l.
        u32 h = g / 4, l = g / 2 % 2;
        RowBest mine[2];
#pragma unroll
        for (u32 i = 0; i < 2; i++) {
            RowBest sent = h ? best[i] : best[2 + i];
            mine[i] = h ? best[2 + i] : best[i];
            row_best_merge(&mine[i], shuffle_xor(sent.value, 16), shuffle_xor(sent.token, 16));
        }
        RowBest sent = l ? mine[0] : mine[1], one = l ? mine[1] : mine[0];
        row_best_merge(&one, shuffle_xor(sent.value, 8), shuffle_xor(sent.token, 8));
        row_best_merge(&one, shuffle_xor(one.value, 4), shuffle_xor(one.token, 4));
        u32 row = h * 8 + c * 2 + l;
        if (g % 2 > 0 || row >= n_rows) return;
        RowBest before = {bests[row].value, bests[row].token};
        row_best_merge(&before, one.value, one.token);
        bests[row].value = before.value, bests[row].token = before.token;
    }
};
#else
// Four lanes a row, four weight rows each.
DEVICE void head_finish(const ProductArgs &a, u8 *shared, u32 unit, u32 first_row, u32 n_rows,
                        const float *sums) {
    HeadBest *best = (HeadBest *)(shared + BEST_AT) + warp_index() * MAX_ROWS;
    const LogitRules *penalties = (const LogitRules *)(shared + PENALTY_AT);
    u32 r = lane_index() % 4 * 4, id = unit * BAND_ROWS + r;
    for (u32 first = 0; first < n_rows; first += 8) {
        u32 i = first + lane_index() / 4;
        bool any = i < n_rows;
        HeadBest b = {-INFINITY_F32, -1, 0, 0};
        if (any) {
            LogitRules rules = penalties[first_row + i];
            float *logits = a.out + (u64)(first_row + i) * N_VOCAB, v[4];
#pragma unroll
            for (u32 k = 0; k < 4; k++) {
                v[k] = 0;
                if (id + k >= N_VOCAB) break;
                v[k] = sums[i * SUM_STRIDE + r + k];
                if (a.bias[0] != 0) v[k] += a.bias[0][id + k];
#ifdef LOGIT_SCALE
                v[k] *= LOGIT_SCALE;
#endif
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
#endif

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
    if (product_multiplies()) product_meet(shared, &s->product); // after head_begin
#ifdef PRODUCT_MANY
    HeadFinish finish = {a, shared, product_multiplies() && any_penalty(shared, n_rows)};
    product_run(a, block, shared, s->bands, &s->product, finish);
#else
    product_run(a, block, shared, s->bands, &s->product,
                [&](u32 unit, u32 first_row, u32 n, const float *sums) {
                    head_finish(a, shared, unit, first_row, n, sums);
                });
#endif
    if (product_multiplies()) {
        product_meet(shared, &s->product);
        head_end(a, block, shared, n_rows);
    }
}

EXPORTED StageInfo head_info = PRODUCT_INFO(HEAD_SHARED_BYTES);

PRODUCT_KERNEL head(ProductArgs a) {
    HeadState s;
    stage_launch_next();
    head_prepare(a, block_index(), product_memory(), &s);
    stage_wait();
    head_run(a, block_index(), product_memory(), &s);
}
