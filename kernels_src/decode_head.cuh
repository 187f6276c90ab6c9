// Decode: final norm and head, and the best logit of each block's rows.
//
//     logits = W norm(x) + b, capped where the model says so
//     best[block] = the row with the largest logit after the repetition penalty, the lowest id among equals
//
// Operations: RMS_NORM or LAYER_NORM (decode_norm.cuh), HEAD. Grid and order of sums: matvec.cuh; a unit is
// four rows side by side. Defines: D_MODEL, N_VOCAB, NORM_EPS, FORMAT_0, BLOCKS, WARPS, RING_BYTES;
// LAYER_NORM, SOFT_CAP (soft_cap.cuh).
#ifndef N_VOCAB
#error "N_VOCAB"
#endif
struct HeadRows {
    const u8 *weight;
    DEVICE u32 projection(u32) const {
        return 0;
    }
    DEVICE const u8 *row(u32 unit, u32 r) const {
        u32 row = MIN(unit * ROWS + r, N_VOCAB - 1u); // rows past the end are computed and dropped
        return weight + row * layout_row_bytes(FORMAT_0, N_COLS);
    }
};

struct HeadState {
    Matvec<HeadRows> product;
    NormWeights norm;
    LogitRules rules;
};

enum : u32 {
    BEST_AT = MATVEC_SHARED_BYTES, // [WARPS] HeadBest
    HEAD_SHARED_BYTES = BEST_AT + WARPS * sizeof(HeadBest),
};

DEVICE void decode_head_prepare(const HeadArgs &a, u32 block, u8 *shared, HeadState *s) {
    s->product.start(block, shared, {a.weight});
    norm_prepare(a.norm, a.norm_bias, &s->norm);
    s->rules = logit_rules(a.row);
    s->product.settle(block);
}

DEVICE void decode_head_run(const HeadArgs &a, u32 block, u8 *shared, HeadState *s) {
    float4 x[X_TURNS];
    x_load_global(a.x, x);
    float factor = norm_run(shared, x, s->norm);
    HeadBest best = {-INFINITY_F32, -1, 0, 0};
    s->product.run(block, shared, [&](u32 unit, const float sums[ROWS]) {
        for (u32 r = 0; r < ROWS; r++) {
            u32 row = unit * ROWS + r;
            if (unit >= UNITS || row >= N_VOCAB) break;
            float logit = fma_f32(sums[r], factor, a.bias != 0 ? a.bias[row] : 0.0f);
#ifdef SOFT_CAP
            logit = soft_cap(logit, SOFT_CAP);
#endif
            a.logits[row] = logit;
            best_take(&best, penalise_logit(s->rules, row, logit), (i32)row);
        }
    });
    best_of_warp(&best);
    HeadBest *warps = (HeadBest *)(shared + BEST_AT);
    if (lane_index() == 0) warps[warp_index()] = best;
    block_sync();
    if (thread_index() > 0) return;
    for (u32 w = 1; w < WARPS; w++) {
        best_merge(&best, warps[w]);
    }
    a.best[block] = best;
}

EXPORTED StageInfo decode_head_info = {THREADS, {BLOCKS, 1}, SHARED_BYTES(HEAD_SHARED_BYTES)};

KERNEL(THREADS, BLOCKS_PER_SM) decode_head(HeadArgs a) {
    HeadState s;
    stage_launch_next();
    decode_head_prepare(a, block_index(), shared_memory(), &s);
    stage_wait();
    decode_head_run(a, block_index(), shared_memory(), &s);
}
