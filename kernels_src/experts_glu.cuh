// The chosen experts' gate and up of a batch's rows, and their activation.
//
//     out = act(W_gate[e] h + b_gate[e], W_up[e] h + b_up[e]) / GLU_DIVISOR    e: an expert that a row chose
// UNGATED: act(W_up[e] h + b_up[e]) / GLU_DIVISOR
// EXPERTS_WEIGHED: the gate is times the choice's weight
// SHARED_ROWS (one row): also a shared expert's, into shared_out, as glu.cuh and to its bits
//     h = in[row], the row's norm (route.cuh)
//
// f16 activations of D_FF columns. Few rows: out_activations is [TOUCHED_MAX] buffers, one a touched expert,
// in which a row has its own place; rows that did not choose the expert are not written. Many: `in` and
// out_activations have a row a slot.
//
// Operations: EXPERT_MATMUL x 2, (EXPERT_WEIGH,) GLU; UNGATED: EXPERT_MATMUL, ACTIVATION. Units:
// experts_units.cuh; order of sums: product.cuh, with either body. Few: the blocks choose
// (chosen_experts.cuh) after the wait, and only then fetch; so the next stage may read the router's logits
// before its own wait. Defines: STAGE_EXPERTS_GLU, experts_units.cuh's, activate.cuh's, FORMAT_0 (of W_gate;
// UNGATED: of W_up), FORMAT_1 (of W_up), the body's; HAS_BIAS where a matrix has one; UNGATED;
// EXPERTS_WEIGHED; many: EXPERT_TILES.
#if D_FF % 2 || (defined(SHARED_ROWS) && SHARED_ROWS % 2)
#error "D_FF and SHARED_ROWS are even"
#endif

// Of a lane's two columns of a band: gate's biases, then up's.
struct GluBias {
    float of[2][2];
};

// Of one of the two columns.
DEVICE float expert_glu_value(const GluBias &bias, u32 which, float gate, float up, float weight) {
    float v[2] = {gate, up};
#ifdef HAS_BIAS
    v[0] += bias.of[0][which], v[1] += bias.of[UNIT_BANDS - 1][which];
#endif
#ifdef EXPERTS_WEIGHED
    v[0] *= weight;
#endif
    (void)bias, (void)which, (void)weight;
#ifdef UNGATED
    return activate(v[0]) * (1 / GLU_DIVISOR);
#else
    return gated(v[0], v[1]) * (1 / GLU_DIVISOR);
#endif
}

// Many rows: the weight of a slot's choice.
DEVICE float expert_slot_weight(const ExpertsArgs &a, u32 slot) {
#ifdef EXPERTS_WEIGHED
    return load_shared_data(a.slot_weight + slot);
#else
    (void)a, (void)slot;
    return 1;
#endif
}

#ifndef PRODUCT_MANY
// The lane's two columns are neighbours, so that it stores 4 bytes.
DEVICE u32 expert_glu_col(u32 band) {
    return band * BAND_ROWS + lane_index() % 8 * 2;
}
DEVICE GluBias expert_glu_bias(const ProductArgs &a, u32 expert, u32 band) {
    GluBias bias = {};
#ifdef HAS_BIAS
    u32 col = expert_glu_col(band);
#pragma unroll
    for (u32 b = 0; b < UNIT_BANDS; b++) {
        if (a.bias[b] == 0 || col >= D_FF) continue;
        bias.of[b][0] = a.bias[b][expert * D_FF + col];
        bias.of[b][1] = a.bias[b][expert * D_FF + col + 1];
    }
#endif
    (void)a, (void)expert, (void)band;
    return bias;
}

// One warp: rows of a unit's sums, those that `takes` accepts, into rows first_row … of `out`, of n_cols
// columns; weight(row): of the row's choice. Sums of a gate and its up are BAND_ROWS apart.
template <class Takes, class Weights>
DEVICE void expert_glu_store(const GluBias &bias, u32 band, u32 first_row, u32 n_rows, const float *sums,
                             f16 *out, u32 n_cols, const Takes &takes, const Weights &weight) {
    u32 col = expert_glu_col(band);
    if (col >= n_cols) return;
    for (u32 row = lane_index() / 8; row < n_rows; row += 4) {
        if (!takes(row)) continue;
        const float *gate = sums + row * SUM_STRIDE + lane_index() % 8 * 2,
                    *up = gate + (UNIT_BANDS - 1) * BAND_ROWS;
        float of_choice = weight(row);
        float first = expert_glu_value(bias, 0, gate[0], up[0], of_choice),
              second = expert_glu_value(bias, 1, gate[1], up[1], of_choice);
        activation_store_2(out, first_row + row, col, first, second);
    }
}
#endif

#if defined(EXPERTS_EIGHTS)
enum : u32 { TOUCHED_AT = ROUND_UP(PRODUCT_SHARED_BYTES, 16) };

DEVICE void experts_glu_run(const ExpertsArgs &a, u32 block, u8 *shared) {
    ExpertsBands bands = bands_of_experts(a, touched_tiles(a.tiles, a.n_tiles, block, shared + TOUCHED_AT));
    Product product;
    product_prepare(a.product, block, shared, bands, &product);
    product_run(a.product, block, shared, bands, &product, [&](u32 unit, u32, u32, const float *sums) {
        u32 tile = unit / EXPERT_UNITS, band = unit % EXPERT_UNITS;
        f16 *out = a.product.out_activations + tile * ACTIVATION_HALVES(MAX_ROWS, D_FF);
        GluBias bias = expert_glu_bias(a.product, bands.touched.expert(tile), band);
        expert_glu_store(
            bias, band, 0, bands.touched.rows(tile), sums, out, D_FF, [](u32) { return true; },
            [&](u32 row) { return expert_slot_weight(a, tile * 8 + row); });
    });
}

EXPORTED StageInfo experts_glu_info = PRODUCT_INFO(TOUCHED_AT + TOUCHED_BYTES);

PRODUCT_KERNEL experts_glu(ExpertsArgs a) {
    stage_launch_next();
    stage_wait();
    experts_glu_run(a, block_index(), product_memory());
}
#elif defined(EXPERTS_MANY)
// product_many.cuh: rows are slots.
struct ExpertGluFinish {
    const ExpertsArgs &a;

    typedef GluBias Ahead;

    DEVICE void foresee(u32, u32, u32, u32) const {
    }

    // Of weight rows g and g + 8.
    DEVICE Ahead ahead(u32 unit, u64, u32) const {
        GluBias bias = {};
#ifdef HAS_BIAS
#pragma unroll
        for (u32 i = 0; i < UNIT_BANDS * 2; i++) {
            u32 b = i / 2, up = i % 2, col = unit % EXPERT_UNITS * BAND_ROWS + lane_index() / 4 + up * 8;
            if (a.product.bias[b] != 0 && col < D_FF)
                bias.of[b][up] = a.product.bias[b][unit / EXPERT_UNITS * D_FF + col];
        }
#endif
        (void)unit;
        return bias;
    }

    template <u32 groups>
    DEVICE void lanes(u32 unit, u64 first_row, u32 n_rows, const LaneSums<groups> &sums,
                      const Ahead &bias) const {
        u32 c = lane_index() % 4;
        store_lane_activations<groups, D_FF>(
            a.product.out_activations, unit % EXPERT_UNITS, first_row, n_rows, [&](u32 up, u32 i, u32 k) {
                float weight = expert_slot_weight(a, (u32)first_row + i * 8 + c * 2 + k);
                return expert_glu_value(bias, up, sums.of[0][i][up * 2 + k],
                                        sums.of[UNIT_BANDS - 1][i][up * 2 + k], weight);
            });
    }
};

DEVICE void experts_glu_run(const ExpertsArgs &a, u32 block, u8 *shared) {
    ExpertsBands bands = bands_of_experts(a, TouchedExperts{a.tiles, a.n_tiles});
    Product product;
    product_prepare(a.product, block, shared, bands, &product);
    product_run(a.product, block, shared, bands, &product, ExpertGluFinish{a});
}

EXPORTED StageInfo experts_glu_info = PRODUCT_INFO(PRODUCT_SHARED_BYTES);

PRODUCT_KERNEL experts_glu(ExpertsArgs a) {
    stage_launch_next();
    stage_wait();
    experts_glu_run(a, block_index(), product_memory());
}
#else
enum : u32 {
    TOUCHED_AT = ROUND_UP(PRODUCT_SHARED_BYTES, 16),
    EXPERTS_GLU_SHARED_BYTES = TOUCHED_AT + TOUCHED_BYTES,
};

// Which experts are wanted is not known yet, but with one row what of them.
DEVICE void experts_glu_prepare(const ExpertsArgs &a, u32 block, u8 *shared, Product *product) {
    load_codebooks(PRODUCT_THREADS);
    product_open(shared);
    touched_clear(shared + TOUCHED_AT);
#if MAX_ROWS == 1
    product_plan(block, bands_of_experts(a, AssumedExperts{}), product);
#else
    (void)a, (void)block, (void)product;
#endif
    block_sync();
#ifdef SHARED_ROWS
    product_early(shared, *product);
#endif
}

DEVICE void experts_glu_run(const ExpertsArgs &a, u32 block, u8 *shared, const Product &planned) {
    Product product = planned;
#if MAX_ROWS == 1
    TouchedExperts touched = touched_early({a.logits, a.select, a.scales}, shared + TOUCHED_AT, &product);
    ExpertsBands bands = bands_of_experts(a, touched);
#else
    TouchedExperts touched =
        touched_experts({a.logits, a.select, a.scales}, batch_rows(a.product), shared + TOUCHED_AT);
    ExpertsBands bands = bands_of_experts(a, touched);
    product_plan(block, bands, &product);
#endif
    product_start(shared, bands, &product);
    auto bias_of = [&](u32 unit) {
        if (unit_is_shared(unit)) return GluBias{};
        return expert_glu_bias(a.product, touched.expert(unit / EXPERT_UNITS), unit % EXPERT_UNITS);
    };
    u32 ahead = product_first_unit(product); // its bias is there when its sums are
    GluBias bias = ahead != ~0u ? bias_of(ahead) : GluBias{};
    product_run(
        a.product, block, shared, bands, &product, [&](u32 unit, u32 first_row, u32 n, const float *sums) {
            u32 t = unit / EXPERT_UNITS, n_cols = D_FF;
            bool is_shared = unit_is_shared(unit);
            f16 *out = a.product.out_activations + t * ACTIVATION_HALVES(MAX_ROWS, D_FF);
#ifdef SHARED_ROWS
            if (is_shared) out = a.shared_out, n_cols = SHARED_ROWS;
#endif
            expert_glu_store(
                unit == ahead ? bias : bias_of(unit), unit_band(unit), first_row, n, sums, out, n_cols,
                [&](u32 row) { return is_shared || touched.choice(t, row) < N_USED; },
                [&](u32 row) { return is_shared ? 1.0f : touched.weight(row, touched.choice(t, row)); });
        });
}

EXPORTED StageInfo experts_glu_info = PRODUCT_INFO(EXPERTS_GLU_SHARED_BYTES);

PRODUCT_KERNEL experts_glu(ExpertsArgs a) {
    Product product = {};
    experts_glu_prepare(a, block_index(), product_memory(), &product);
    stage_wait();
    stage_launch_next();
    experts_glu_run(a, block_index(), product_memory(), product);
}
#endif
