// The chosen experts' down of a batch's rows, and their sum into the residual stream.
//
//     out[slot] = W_down[e] in[slot] + b_down[e]       e the expert of the slot's choice
//     x[row] += sum_i weight_i out[slot of row's i-th choice]     few: experts_sum.cuh's order and bits
// SHARED_ROWS (one row): then x += share W_shared in[N_USED], of a shared expert, as output.cuh and to its
// bits; share is 1 but with HAS_SHARE
//
// `in` is what experts_glu.cuh left, divided by GLU_DIVISOR, which is multiplied back (exactly). Few rows:
// row r's i-th choice is slot r * N_USED + i. At its end a block counts, for each of its units, that the
// unit's band has one expert more; the block with the last expert adds the band up. One row, PAIRS: the
// blocks of a pair have the same bands, each of half of the experts, and send each other what the other one
// adds up; nothing goes through memory (GPT-OSS-20B: 898 tokens/s → 931). Many rows: experts_sum.cuh is a
// stage of its own.
//
// Operations: EXPERT_MATMUL; few: EXPERT_SUM, ADD. Units: experts_units.cuh; order of sums: product.cuh,
// with either body. Few: the blocks choose (chosen_experts.cuh) and fetch before the wait: the stage before
// lets this one go when it has the router's logits itself. Defines: STAGE_EXPERTS_DOWN, experts_units.cuh's,
// FORMAT_0, the body's; one row: PAIRS (sm_90), HAS_SHARE; many: EXPERT_TILES; few: SUM_ALONE (1): x = in
// place of +=.
#ifndef SUM_ALONE
#define SUM_ALONE 0
#endif
#if defined(SHARED_ROWS) && SHARED_ROWS != D_MODEL
#error "SHARED_ROWS is D_MODEL"
#endif

#ifndef PRODUCT_MANY
// Of a unit's sum: what is added up. share: of the shared expert.
DEVICE float expert_term(u32 unit, float sum, float share, float bias) {
#ifdef HAS_SHARE
    if (unit_is_shared(unit)) sum *= share;
#endif
    (void)unit, (void)share;
    return sum * GLU_DIVISOR + bias;
}

// When the router has ended.
DEVICE float expert_share(const ProductArgs &a) {
#ifdef HAS_SHARE
    return load_shared_data(a.share);
#else
    (void)a;
    return 1;
#endif
}

// Of row lane % 16 of the band.
DEVICE float expert_down_bias(const ProductArgs &a, u32 expert, u32 band) {
    u32 col = band * BAND_ROWS + lane_index() % BAND_ROWS;
    return a.bias[0] != 0 && col < D_MODEL ? a.bias[0][expert * D_MODEL + col] : 0.0f;
}

// One warp: rows of a unit's sums into `out`; slot_of(row) is its row there, or UINT32_MAX for none.
template <class SlotOf>
DEVICE void expert_down_store(float *out, u32 unit, float bias, float share, u32 n_rows, const float *sums,
                              const SlotOf &slot_of) {
    u32 r = lane_index() % BAND_ROWS, col = unit_band(unit) * BAND_ROWS + r;
    if (col >= D_MODEL) return;
    for (u32 row = lane_index() / BAND_ROWS; row < n_rows; row += 2) {
        u32 slot = slot_of(row);
        if (slot == ~0u) continue;
        out[(u64)slot * D_MODEL + col] = expert_term(unit, sums[row * SUM_STRIDE + r], share, bias);
    }
}
#endif

#if defined(EXPERTS_EIGHTS)
enum : u32 { TOUCHED_AT = ROUND_UP(PRODUCT_SHARED_BYTES, 16) };

DEVICE void experts_down_run(const ExpertsArgs &a, u32 block, u8 *shared) {
    ExpertsBands bands = bands_of_experts(a, touched_tiles(a.tiles, a.n_tiles, block, shared + TOUCHED_AT));
    Product product;
    product_prepare(a.product, block, shared, bands, &product);
    product_run(a.product, block, shared, bands, &product, [&](u32 unit, u32, u32, const float *sums) {
        u32 tile = unit / EXPERT_UNITS, band = unit % EXPERT_UNITS;
        float bias = expert_down_bias(a.product, bands.touched.expert(tile), band);
        expert_down_store(a.product.out, unit, bias, 1, bands.touched.rows(tile), sums,
                          [&](u32 row) { return tile * 8 + row; });
    });
}

EXPORTED StageInfo experts_down_info = PRODUCT_INFO(TOUCHED_AT + TOUCHED_BYTES);

PRODUCT_KERNEL experts_down(ExpertsArgs a) {
    stage_launch_next();
    stage_wait();
    experts_down_run(a, block_index(), product_memory());
}
#elif defined(EXPERTS_MANY)
// product_many.cuh: rows are slots; a lane has one weight row and four of each 8 rows.
struct ExpertDownFinish {
    const ExpertsArgs &a;

    struct Ahead {
        float bias;
    };

    static DEVICE u32 col_of(u32 unit) {
        return unit % EXPERT_UNITS * BAND_ROWS + lane_weight_row();
    }

    DEVICE void foresee(u32, u32, u32, u32) const {
    }

    DEVICE Ahead ahead(u32 unit, u64, u32) const {
        u32 col = col_of(unit);
        bool has_bias = a.product.bias[0] != 0 && col < D_MODEL;
        return {has_bias ? a.product.bias[0][unit / EXPERT_UNITS * D_MODEL + col] : 0.0f};
    }

    template <u32 groups>
    DEVICE void lanes(u32 unit, u64 first_row, u32 n_rows, const LaneSums<groups> &sums,
                      const Ahead &ahead) const {
        u32 col = col_of(unit);
        float *out = a.product.out + (lane_first_row() * D_MODEL + col) + first_row * D_MODEL;
#pragma unroll
        for (u32 i = 0; i < groups; i++) {
            float v[4];
            sums_of_weight_row(sums.of[0][i], v);
#pragma unroll
            for (u32 r = 0; r < 4; r++) {
                if (col < D_MODEL && i * 8 + lane_first_row() + r < n_rows)
                    out[(u64)(i * 8 + r) * D_MODEL] = v[r] * GLU_DIVISOR + ahead.bias;
            }
        }
    }
};

DEVICE void experts_down_run(const ExpertsArgs &a, u32 block, u8 *shared) {
    ExpertsBands bands = bands_of_experts(a, TouchedExperts{a.tiles, a.n_tiles});
    Product product;
    product_prepare(a.product, block, shared, bands, &product);
    product_run(a.product, block, shared, bands, &product, ExpertDownFinish{a});
}

EXPORTED StageInfo experts_down_info = PRODUCT_INFO(PRODUCT_SHARED_BYTES);

PRODUCT_KERNEL experts_down(ExpertsArgs a) {
    stage_launch_next();
    stage_wait();
    experts_down_run(a, block_index(), product_memory());
}
#elif HAS_PAIRS
enum : u32 {
    TOUCHED_AT = ROUND_UP(PRODUCT_SHARED_BYTES, 16),
    SUM_BANDS = CEIL_DIV(PAIR_UNITS, 2u), // that a block adds up: each second one of the pair's
    // Sent by both blocks, [SUM_BANDS][N_INPUTS][BAND_ROWS]; and the barrier that counts them.
    TERMS_AT = TOUCHED_AT + ROUND_UP(TOUCHED_BYTES, 16),
    SENT_AT = TERMS_AT + SUM_BANDS * N_INPUTS * BAND_ROWS * 4,
    EXPERTS_DOWN_SHARED_BYTES = SENT_AT + 16,
};
static_assert(MAX_ROWS == 1 && SUM_BANDS <= WARPS, "a warp adds up a band of one row");

struct ExpertsDownState {
    ExpertsBands bands;
    Product product;
    u32 first_band, rank; // of the pair; the block's in it
    float bias[4];        // of the unit that the warp finishes, rows 4 (lane % 4) …
    u32 sum_col;          // that the lane adds up; D_MODEL and more: none
    float before;         // x there
    float share;          // of the shared expert
};

// Before the sums are there.
DEVICE void experts_down_bias(const ExpertsArgs &a, ExpertsDownState *s) {
    u32 unit = product_first_unit(s->product);
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        u32 col = unit % EXPERT_UNITS * BAND_ROWS + lane_index() % 4 * 4 + i;
        s->bias[i] = 0;
        if (unit == ~0u || a.product.bias[0] == 0 || col >= D_MODEL || unit_is_shared(unit)) continue;
        s->bias[i] = a.product.bias[0][s->bands.touched.expert(unit / EXPERT_UNITS) * D_MODEL + col];
    }
}

DEVICE void experts_down_prepare(const ExpertsArgs &a, u32 block, u8 *shared, ExpertsDownState *s) {
    BlockUnits units = block_units(block, UNITS);
    s->rank = cluster_rank();
    s->first_band = units.first % EXPERT_UNITS;
    load_codebooks(PRODUCT_THREADS);
    product_open(shared);
    touched_clear(shared + TOUCHED_AT);
    u32 n_sums = (units.run + 1 - s->rank) / 2;
    if (thread_index() == 0) {
        BulkBarrier *sent = (BulkBarrier *)(shared + SENT_AT);
        bulk_barrier_init(sent, 1);
        bulk_barrier_init_fence();
        bulk_barrier_expect(sent, n_sums * N_INPUTS * BAND_ROWS * 4);
    }
    block_sync();
    cluster_arrive();
    s->bands = bands_of_experts(a, touched_experts({a.logits, a.select, a.scales}, 1, shared + TOUCHED_AT));
    product_plan(block, s->bands, &s->product);
    product_start(shared, s->bands, &s->product);
    if (!product_multiplies()) return;
    experts_down_bias(a, s);
    s->sum_col = (s->first_band + warp_index() * 2 + s->rank) * BAND_ROWS + lane_index() % BAND_ROWS;
    if (warp_index() >= n_sums) s->sum_col = D_MODEL;
    // The stage before lets this one go when the router, which read x, has ended.
    s->before = !SUM_ALONE && s->sum_col < D_MODEL ? load_shared_data(a.x + s->sum_col) : 0.0f;
    s->share = expert_share(a.product);
}

// One warp: a unit's sums to the block that adds them up.
DEVICE void experts_down_send(u8 *shared, const ExpertsDownState &s, u32 unit, const float *sums) {
    if (lane_index() >= BAND_ROWS / 4) return;
    u32 band = unit % EXPERT_UNITS - s.first_band, rank = band % 2;
    float4 v = *(const float4 *)(sums + lane_index() * 4);
    auto term = [&](float sum, float bias) { return expert_term(unit, sum, s.share, bias); };
    v = {term(v.x, s.bias[0]), term(v.y, s.bias[1]), term(v.z, s.bias[2]), term(v.w, s.bias[3])};
    u32 at = (band / 2 * N_INPUTS + unit / EXPERT_UNITS) * BAND_ROWS + lane_index() * 4;
    cluster_store(cluster_address(shared + TERMS_AT + at * 4, rank), v,
                  cluster_address(shared + SENT_AT, rank));
}

DEVICE void experts_down_run(const ExpertsArgs &a, u32 block, u8 *shared, ExpertsDownState *s) {
    cluster_wait(); // the other block's barrier is made
    product_run(a.product, block, shared, s->bands, &s->product,
                [&](u32 unit, u32, u32, const float *sums) { experts_down_send(shared, *s, unit, sums); });
    if (!product_multiplies() || s->sum_col >= D_MODEL) return;
    bulk_barrier_wait_cluster((BulkBarrier *)(shared + SENT_AT), 0);
    const float *terms = (const float *)(shared + TERMS_AT) + warp_index() * (N_INPUTS * BAND_ROWS);
    float sum = 0;
#pragma unroll
    for (u32 k = 0; k < N_USED; k++) {
        sum = fma_f32(s->bands.touched.weight(0, k), terms[k * BAND_ROWS + lane_index() % BAND_ROWS], sum);
    }
    sum = s->before + sum;
    if (N_INPUTS > N_USED) sum += terms[N_USED * BAND_ROWS + lane_index() % BAND_ROWS]; // the shared one's
    a.x[s->sum_col] = sum;
}
#else
enum : u32 {
    TOUCHED_AT = ROUND_UP(PRODUCT_SHARED_BYTES, 16),
    COMPLETE_AT = TOUCHED_AT + ROUND_UP(TOUCHED_BYTES, 16), // bits: which of the block's units
    EXPERTS_DOWN_SHARED_BYTES = COMPLETE_AT + CEIL_DIV(GROUP_UNITS, WARP) * 4,
};

struct ExpertsDownState {
    ExpertsBands bands;
    Product product;
    u32 ahead; // the unit whose bias is known before
    float bias;
    float share; // of the shared expert
};

DEVICE float expert_unit_bias(const ProductArgs &a, const TouchedExperts &touched, u32 unit) {
    if (unit_is_shared(unit)) return 0;
    return expert_down_bias(a, touched.expert(unit / EXPERT_UNITS), unit % EXPERT_UNITS);
}

DEVICE void experts_down_prepare(const ExpertsArgs &a, u32 block, u8 *shared, ExpertsDownState *s) {
    load_codebooks(PRODUCT_THREADS);
    product_open(shared);
    touched_clear(shared + TOUCHED_AT);
    block_sync();
    s->bands = bands_of_experts(
        a, touched_experts({a.logits, a.select, a.scales}, batch_rows(a.product), shared + TOUCHED_AT));
    product_plan(block, s->bands, &s->product);
    product_start(shared, s->bands, &s->product);
    s->share = expert_share(a.product);
    s->ahead = product_first_unit(s->product);
    s->bias = s->ahead == ~0u ? 0.0f : expert_unit_bias(a.product, s->bands.touched, s->ahead);
}

// One warp: the band's sums of all experts into the residual stream.
DEVICE void expert_band_sum(const ExpertsArgs &a, const TouchedExperts &touched, u32 band, u32 n_rows) {
    u32 col = band * BAND_ROWS + lane_index() % BAND_ROWS;
    if (col >= D_MODEL) return;
#pragma unroll
    for (u32 i = 0; i < CEIL_DIV(MAX_ROWS, 2); i++) {
        u32 row = i * 2 + lane_index() / BAND_ROWS;
        if (row >= n_rows) break;
        float *x = a.x + row * D_MODEL + col, before = SUM_ALONE ? 0.0f : load_shared_data(x);
        float v[ROW_EXPERTS], sum = 0;
#pragma unroll
        for (u32 k = 0; k < ROW_EXPERTS; k++) {
            v[k] = load_shared_data(a.product.out + (u64)(row * ROW_EXPERTS + k) * D_MODEL + col);
        }
#pragma unroll
        for (u32 k = 0; k < N_USED; k++) {
            sum = fma_f32(touched.weight(row, k), v[k], sum);
        }
        sum = before + sum;
        *x = ROW_EXPERTS > N_USED ? sum + v[ROW_EXPERTS - 1] : sum; // the shared one's
    }
}

// All warps that multiply, at the block's end.
DEVICE void experts_down_sum(const ExpertsArgs &a, u8 *shared, const ExpertsDownState &s) {
    const TouchedExperts &touched = s.bands.touched;
    u32 *complete = (u32 *)(shared + COMPLETE_AT), first = s.product.units.first, n = s.product.units.n;
    Product product = s.product;
    product_meet(shared, &product); // what other warps stored counts, too
#pragma unroll 1
    for (u32 i = warp_index() * WARP; i < n; i += WARPS * WARP) {
        u32 unit = first + i + lane_index();
        bool last = i + lane_index() < n && is_last_thread(a.arrivals + unit % EXPERT_UNITS, touched.n());
        u32 lanes = ballot_lanes(last);
        if (lane_index() == 0) complete[i / WARP] = lanes;
    }
    product_meet(shared, &product);
    u32 n_rows = MIN(batch_rows(a.product), (u32)MAX_ROWS);
#pragma unroll 1
    for (u32 i = warp_index(); i < n; i += WARPS) {
        if (complete[i / WARP] >> i % WARP & 1)
            expert_band_sum(a, touched, (first + i) % EXPERT_UNITS, n_rows);
    }
}

DEVICE void experts_down_run(const ExpertsArgs &a, u32 block, u8 *shared, ExpertsDownState *s) {
    product_run(a.product, block, shared, s->bands, &s->product,
                [&](u32 unit, u32, u32 n_rows, const float *sums) {
                    const TouchedExperts &touched = s->bands.touched;
                    u32 band = unit % EXPERT_UNITS;
                    float bias = unit == s->ahead ? s->bias : expert_unit_bias(a.product, touched, unit);
                    expert_down_store(a.product.out, unit, bias, s->share, n_rows, sums, [&](u32 row) {
                        u32 i = touched.choice(unit / EXPERT_UNITS, row);
                        return i < ROW_EXPERTS ? row * ROW_EXPERTS + i : ~0u;
                    });
                    // Blocks that share columns: which one finishes a unit is known here alone.
                    if (K_BLOCKS > 1 && is_last_warp(a.arrivals + band, touched.n()))
                        expert_band_sum(a, touched, band, n_rows);
                });
    if (K_BLOCKS == 1 && product_multiplies()) experts_down_sum(a, shared, *s);
}
#endif

#ifndef EXPERTS_MANY
EXPORTED StageInfo experts_down_info = PRODUCT_INFO(EXPERTS_DOWN_SHARED_BYTES);

PRODUCT_KERNEL experts_down(ExpertsArgs a) {
    ExpertsDownState s;
    stage_launch_next();
    experts_down_prepare(a, block_index(), product_memory(), &s);
    stage_wait();
    experts_down_run(a, block_index(), product_memory(), &s);
}
#endif
