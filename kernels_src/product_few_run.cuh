// Of product_few.cuh: products of what is in shared memory, and how sums are finished.

// ---- multiplying ----

// Adds the products of one tile, but of its first `from` halves: columns from half `half` on of the block's
// activations. Calls loaded() when the lane has read the tile.
template <int format, class Loaded>
DEVICE void multiply_tile(const u8 *tile, LaneInput *x, u32 half, u32 n_halves, u32 from, float sum[4],
                          const Loaded &loaded) {
    constexpr u32 halves = layout_tile_cols(format) / HALF_COLS;
    Tile<format> t;
    t.scales(tile);
#pragma unroll
    for (u32 h = 0; h < halves; h++) {
        if (h < from) continue;
        if (COL_HALVES % 2 && h >= n_halves) break;
        t.half(tile, h);
        if (h + 1 == halves || (COL_HALVES % 2 && h + 1 >= n_halves)) loaded();
#pragma unroll
        for (u32 j = 0; j < 4; j++) {
            u32 w[2][4];
            t.pair(h, j, w);
            const u32 *b = load_input(x, half + h, j);
            mma_f16(sum, w[0], b);
            mma_f16(sum, w[1], b + 2);
        }
    }
}

// A step of a band, but its first `from` halves; `step` counts from the columns' start, `half` from the
// block's activations'. Calls loaded() when the lane has read the piece.
template <int format, class Loaded>
DEVICE void multiply_step(const u8 *piece, LaneInput *x, u32 step, u32 half, u32 from, float sum[4],
                          const Loaded &loaded) {
    constexpr u32 tile = layout_tile_bytes16(format), halves = layout_tile_cols(format) / HALF_COLS;
    constexpr u32 n_tiles = step_bytes(format) / tile;
    u32 n_halves = COL_HALVES % 2 ? COL_HALVES - step * STEP_HALVES : STEP_HALVES;
#pragma unroll
    for (u32 k = 0; k < n_tiles; k++) {
        if (from >= (k + 1) * halves) continue;
        if (k > 0 && COL_HALVES % 2 && k >= n_halves) break;
        bool last = k + 1 == n_tiles || (COL_HALVES % 2 && k + 1 >= n_halves);
        multiply_tile<format>(piece + k * tile, x, half + k, n_halves, from - MIN(from, k * halves), sum,
                              [&] {
                                  if (last) loaded();
                              });
    }
}

// What a warp needs to multiply and to hand over.
struct Worker {
    u8 *shared;
    LaneInput x;
    u32 first_half; // of the block's activations
    float *partial; // K_BLOCKS > 1
};

DEVICE void slot_wait(const Worker &w, const RingPlace &place) {
#if HAS_BULK
    bulk_barrier_wait(product_barriers(w.shared).full + place.slot, place.parity);
#else
    (void)w, (void)place;
    copy_async_wait<SLOTS - 1>();
    warp_sync();
#endif
}
template <class Bands> DEVICE void slot_done(const Worker &w, const Bands &bands, Product *p) {
    if (!RESIDENT || !HAS_BULK) warp_sync(); // every lane has read the slot
#if HAS_BULK
    (void)bands;
    if (!RESIDENT && lane_index() == 0) bulk_barrier_arrive(product_barriers(w.shared).empty + p->place.slot);
#else
    product_fetch_step(w.shared, p->units, bands, p->fetched++);
#endif
    ring_advance(&p->place);
}

// The warp's columns of its band. SPLIT: each segment's sums go to its place in `parts`; else the total
// stays with the lanes.
struct BandSums {
    float *parts; // of segment first_part
    u32 first_part, part_stride, segment_floats;
    float sum[4], total[4];

    DEVICE void end_segment(u32 s, bool first) {
        if (SPLIT) store_sums(sum, parts + (s - first_part) * segment_floats, part_stride);
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            total[i] = first ? sum[i] : total[i] + sum[i];
            sum[i] = 0;
        }
    }
};

DEVICE void input_wait(const Worker &w, u32 input, u32 segment) {
#if HAS_BULK && !defined(NORM_INPUT)
    if (INPUT_BULK) bulk_barrier_wait(product_barriers(w.shared).input + input * SEGMENTS + segment, 0);
#endif
    (void)w, (void)input, (void)segment;
}

// READY: a segment whose first `n_ready` halves have been taken apart.
template <int format>
DEVICE void multiply_ready_segment(const Worker &w, LaneInput *x, const Product &p, u32 way, u32 piece_at,
                                   u32 s, u32 n_ready, float sum[4]) {
    u32 first = s * SEGMENT_STEPS, half = first * STEP_HALVES - w.first_half;
    const u8 *piece = w.shared + (first - way_step(way)) * SLOT_BYTES + piece_at;
#pragma unroll
    for (u32 i = 0; i < n_ready; i++) {
        if (COL_HALVES % 2 && i > 0 && segment_first_half(s) + i >= COL_HALVES) break;
#pragma unroll
        for (u32 j = 0; j < 4; j++) {
            const u32 *b = load_input(x, half + i, j);
            mma_f16(sum, p.ready[i].of[j][0], b);
            mma_f16(sum, p.ready[i].of[j][1], b + 2);
        }
    }
#pragma unroll
    for (u32 i = 0; i < SEGMENT_STEPS; i++) {
        if (COL_STEPS % SEGMENT_STEPS && first + i >= COL_STEPS) break;
        if (n_ready >= (i + 1) * STEP_HALVES) continue;
        multiply_step<format>(piece + i * SLOT_BYTES, x, first + i, half + i * STEP_HALVES,
                              n_ready - MIN(n_ready, i * STEP_HALVES), sum, [] {});
    }
}

template <int format>
DEVICE void multiply_ready(const Worker &w, const WarpBand &band, u32 piece_at, const Product &p,
                           BandSums *sums) {
    u32 first = way_segment(band.way), end = way_segment(band.way + 1), input = input_of(p.units, band.unit);
    LaneInput x = at_input(w.x, input);
    input_wait(w, input, first);
    multiply_ready_segment<format>(w, &x, p, band.way, piece_at, first, READY_HALVES, sums->sum);
    sums->end_segment(first, true);
#pragma unroll 1
    for (u32 s = first + 1; s < end && (u32)WAYS < (u32)SEGMENTS; s++) {
        input_wait(w, input, s);
        multiply_ready_segment<format>(w, &x, p, band.way, piece_at, s, 0, sums->sum);
        sums->end_segment(s, false);
    }
}

template <int format, class Bands>
DEVICE void multiply_band(const Worker &w, const Bands &bands, const WarpBand &band, Product *p,
                          BandSums *sums) {
    u32 at = piece_at(p->units, bands, band, warp_index());
    if (READY) {
        multiply_ready<format>(w, band, at, *p, sums);
        return;
    }
    u32 first = way_segment(band.way), end = way_segment(band.way + 1);
    u32 input = input_of(p->units, band.unit);
    LaneInput x = at_input(w.x, input);
#pragma unroll 1
    for (u32 s = first; s < end; s++) {
        input_wait(w, input, s);
        u32 last = MIN((s + 1) * SEGMENT_STEPS, (u32)COL_STEPS);
#pragma unroll 1
        for (u32 step = s * SEGMENT_STEPS; step < last; step++) {
            slot_wait(w, p->place);
            const u8 *piece = w.shared + p->place.slot * SLOT_BYTES + at;
            multiply_step<format>(piece, &x, step, step * STEP_HALVES - w.first_half, 0, sums->sum,
                                  [&] { slot_done(w, bands, p); });
        }
        sums->end_segment(s, s == first);
    }
}

// ---- before the input ----

template <class Bands> DEVICE UnitFactors unit_factors(const WarpBand &w, const Bands &bands) {
    UnitFactors f = {{1, 1}};
    if (!w.any) return f;
    if (SPLIT) {
#pragma unroll
        for (u32 b = 0; b < UNIT_BANDS; b++) {
            f.of[b] = bands.factors(w.unit, b)[lane_index() % BAND_ROWS];
        }
    } else {
        f.of[0] = bands.factors(w.unit, w.b)[lane_index() / 4];
        f.of[1] = bands.factors(w.unit, w.b)[lane_index() / 4 + 8];
    }
    return f;
}

#if HAS_CLUSTER
// Four weight rows a lane, of the unit that this warp finishes.
template <class Bands>
DEVICE void cluster_factors(const BlockUnits &u, const Bands &bands, float4 factors[UNIT_BANDS]) {
#pragma unroll
    for (u32 b = 0; b < UNIT_BANDS; b++) {
        factors[b] = {1, 1, 1, 1};
        if (cluster_place(u) < u.n)
            factors[b] = ((const float4 *)bands.factors(u.first + cluster_place(u), b))[lane_index() % 4];
    }
}
#endif

// What a warp knows of its first pass, and does for it, before the input is there: a load from memory takes
// as long as a small product.
template <class Bands> DEVICE void product_begin(u8 *shared, const Bands &bands, Product *p) {
    p->band.any = false;
    if (p->units.passes == 0) return;
    p->band = warp_band(p->units, 0, warp_index());
#if HAS_CLUSTER
    cluster_factors(p->units, bands, p->cluster_factors);
#else
    p->factors = unit_factors(p->band, bands);
#endif
#if HAS_BULK
    if (!READY) return;
    for (u32 i = 0; i < SLOTS; i++) {
        bulk_barrier_wait(product_barriers(shared).full + i, 0);
    }
    if (!p->band.any) return;
    u32 at = piece_at(p->units, bands, p->band, warp_index());
    with_band_format(bands.format(p->band.unit, p->band.b), [&](auto f) {
        constexpr int format = decltype(f)::format;
        constexpr u32 halves = layout_tile_cols(format) / HALF_COLS;
#pragma unroll
        for (u32 i = 0; i < READY_HALVES; i++) {
            const u8 *tile = shared + i / STEP_HALVES * SLOT_BYTES + at +
                             i % STEP_HALVES / halves * layout_tile_bytes16(format);
            Tile<format> t;
            t.scales(tile);
            t.half(tile, i % halves);
#pragma unroll
            for (u32 j = 0; j < 4; j++) {
                t.pair(i % halves, j, p->ready[i].of[j]);
            }
        }
    });
#else
    (void)shared;
#endif
}

// What needs neither weights nor input. The block meets before product_start.
DEVICE void product_open(u8 *shared) {
    (void)shared;
#ifdef NORM_INPUT
    // Places past the last column are multiplied with zeros, and must be numbers.
    u32 *last = (u32 *)(shared + X_AT + (COL_HALVES - 1) * 2 * SHEET_BYTES);
    for (u32 i = thread_index(); N_COLS % HALF_COLS > 0 && i < 2 * SHEET_BYTES / 4; i += PRODUCT_THREADS) {
        last[i] = 0;
    }
#endif
#if HAS_BULK
    if (thread_index() > 0) return;
    Barriers b = product_barriers(shared);
    for (u32 i = 0; i < SLOTS; i++) {
        bulk_barrier_init(b.full + i, N_FETCHERS * (1 + HAS_EARLY)); // each for early units, too
        bulk_barrier_init(b.empty + i, WARPS);
    }
    for (u32 i = 0; i < INPUTS * SEGMENTS; i++) {
        bulk_barrier_init(b.input + i, 1);
    }
    bulk_barrier_init(b.passes, WARPS);
    bulk_barrier_init_fence();
#endif
}

// What is asked for first.
template <class Bands> DEVICE void product_plan(u32 block, const Bands &bands, Product *p) {
#ifdef UNITS_AT_RUN_TIME
    p->units = block_units(block, bands.units());
#elif defined(OWN_PIECES)
    p->units = block_units_of_bytes(block, bands);
#else
    p->units = block_units(block, UNITS);
#endif
    p->place = {0, 0};
#if HAS_BULK
    if (warp_index() >= FETCHER) p->first = lane_copy(p->units, bands, 0);
    if (HAS_EARLY && warp_index() >= FETCHER) p->early = lane_copy(p->units, bands, 0, true);
#else
    (void)bands;
#endif
}

#if HAS_EARLY
// The weights of early units on their way: behind product_plan and a meeting of the block, before
// product_start.
DEVICE void product_early(u8 *shared, const Product &p) {
#if HAS_BULK
    if (warp_index() < FETCHER || p.units.passes == 0) return;
    for (u32 step = 0; step < EARLY_STEPS; step++) {
        fetch_step(shared, p.units, p.early, 0, step, step);
    }
#else
    (void)shared, (void)p; // a warp has one unit in a slot
#endif
}
#endif

// The block's weights on their way.
template <class Bands> DEVICE void product_ask(u8 *shared, const Bands &bands, Product *p) {
#if HAS_BULK
    // Warps that only fetch have nothing else to do, and wait for no earlier stage.
    if (warp_index() >= FETCHER) product_fetch(shared, p->units, bands, p->first, p->early);
#else
    for (p->fetched = 0; p->fetched < SLOTS; p->fetched++) {
        product_fetch_step(shared, p->units, bands, p->fetched);
    }
#endif
}
// That, and what comes of it, where the codebooks are there.
template <class Bands> DEVICE void product_start(u8 *shared, const Bands &bands, Product *p) {
    product_ask(shared, bands, p);
    if (product_multiplies()) product_begin(shared, bands, p);
}

template <class Bands>
DEVICE void product_prepare(const ProductArgs &a, u32 block, u8 *shared, const Bands &bands, Product *p) {
    product_open(shared);
#ifdef NORM_INPUT
    if (product_multiplies()) p->norm.prepare(a.norm, a.norm_bias, warp_index());
#ifdef POST_INPUT
    if (product_multiplies()) p->post.prepare(a);
#endif
#ifdef STAGE_HEAD
    p->row = load_shared_data(a.logits_rows);
#endif
#else
    (void)a;
#endif
    block_sync();
    product_plan(block, bands, p);
    product_ask(shared, bands, p);
    if (!product_multiplies()) return;
    if (CODEBOOKS_BYTES > 0) {
        load_codebooks(WARPS * WARP);
        product_meet(shared, p);
    }
    product_begin(shared, bands, p);
}

// ---- finishing ----

// Adds up the segments of the unit's bands, of rows first … n_rows - 1 but at most FINISH_ROWS: parts
// [UNIT_BANDS][SEGMENTS][MAX_ROWS][stride].
template <class Load>
DEVICE void add_segments(const UnitFactors &f, u32 first, u32 n_rows, u32 band_floats, u32 stride,
                         float *sums, const Load &load) {
#pragma unroll
    for (u32 b = 0; b < UNIT_BANDS; b++) {
#pragma unroll
        for (u32 i = 0; i < CEIL_DIV(FINISH_ROWS, 2); i++) {
            u32 row = first + i * 2 + lane_index() / BAND_ROWS, r = lane_index() % BAND_ROWS;
            if (row >= n_rows) continue;
            u32 at = b * band_floats + row * stride + r;
            float total = load(at);
#pragma unroll
            for (u32 s = 1; s < SEGMENTS; s++) {
                total += load(at + s * MAX_ROWS * stride);
            }
            sums[row * SUM_STRIDE + b * BAND_ROWS + r] = total * f.of[b];
        }
    }
}

// Waits until all warps of the block have done pass `pass`.
DEVICE void pass_wait(const Worker &w, u32 pass) {
#if HAS_BULK
    bulk_barrier_wait(product_barriers(w.shared).passes, pass % 2);
#else
    (void)w, (void)pass;
#endif
}
DEVICE void pass_done(const Worker &w) {
#if HAS_BULK
    warp_sync();
    if (lane_index() == 0) bulk_barrier_arrive(product_barriers(w.shared).passes);
#else
    (void)w;
    block_sync();
#endif
}

#if HAS_CLUSTER
// Which block of a cluster has a segment.
DEVICE constexpr u32 block_of_segment(u32 s) {
    u32 part = 0;
    while (way_segment((part + 1) * K_WAYS) <= s) {
        part++;
    }
    return part;
}

// Four weight rows of a row of the batch a lane: their segments' sums, out of the cluster's blocks.
DEVICE float4 cluster_total(u8 *shared, u32 band, u32 row, u32 r) {
    float4 total = {0, 0, 0, 0};
#pragma unroll
    for (u32 s = 0; s < SEGMENTS; s++) {
        u32 owner = block_of_segment(s), own = s - way_segment(owner * K_WAYS);
        u32 at = band * BAND_PARTS + (own * MAX_ROWS + row) * PART_STRIDE + r;
        float4 v = cluster_load(cluster_address(shared + PARTS_AT + at * 4, owner));
        if (s == 0) total = v;
        else total = {total.x + v.x, total.y + v.y, total.z + v.z, total.w + v.w};
    }
    return total;
}

// When all blocks of the cluster have their sums.
template <class Finish>
DEVICE void cluster_finish(const Worker &w, const Product &p, u32 n_rows, const Finish &finish) {
    u32 place = cluster_place(p.units), row = lane_index() / 4, r = lane_index() % 4 * 4;
    cluster_sync();
    if (place < p.units.n) {
        float *sums = (float *)(w.shared + SUMS_AT) + place / K_BLOCKS * UNIT_SUMS;
#pragma unroll
        for (u32 b = 0; b < UNIT_BANDS; b++) {
            if (row >= n_rows) break;
            float4 v = cluster_total(w.shared, place * UNIT_BANDS + b, row, r), f = p.cluster_factors[b];
            float *out = sums + row * SUM_STRIDE + b * BAND_ROWS + r;
            out[0] = v.x * f.x, out[1] = v.y * f.y, out[2] = v.z * f.z, out[3] = v.w * f.w;
        }
        warp_sync();
        finish(p.units.first + place, 0, n_rows, sums);
    }
    cluster_sync(); // nobody reads this block's sums any more
}
#endif

// One pass: the warp's band, then, by one warp of each unit, what the stage does with it.
template <class Bands, class Finish>
DEVICE void product_pass(const ProductArgs &a, const Worker &w, const Bands &bands, Product *p, u32 pass,
                         u32 n_rows, const Finish &finish) {
    bool known = PASSES == 1 || pass == 0;
    WarpBand band = known ? p->band : warp_band(p->units, pass, warp_index());
    UnitFactors factors = CLUSTER > 1 || known ? p->factors : unit_factors(band, bands);
    u32 buffer = BUFFERS == 1 ? 0 : pass % 2;
    float *sums = (float *)(w.shared + SUMS_AT) + (buffer * PASS_UNITS + band.place) * UNIT_SUMS;
    float *parts = (float *)(w.shared + PARTS_AT) + buffer * PASS_BANDS * BAND_PARTS;
    u32 band_floats = PART_SEGMENTS * MAX_ROWS * PART_STRIDE, stride = PART_STRIDE;
    u32 first_part = CLUSTER > 1 ? way_segment(p->units.part * K_WAYS) : 0;
    parts += (band.place * UNIT_BANDS) * band_floats;
    if (K_BLOCKS != CLUSTER) {
        stride = BAND_ROWS;
        band_floats = SEGMENTS * MAX_ROWS * BAND_ROWS;
        parts = w.partial + (u64)band.unit * UNIT_BANDS * band_floats;
    }

    // A buffer is free when all warps are a pass further than the one that used it.
    if (SPLIT && pass > 1) pass_wait(w, pass - 1);
    BandSums of_band = {parts + band.b * band_floats, first_part, stride, MAX_ROWS * stride, {}, {}};
    float *total = of_band.total;
    u32 done = 0;
    if (band.any) {
        with_band_format(bands.format(band.unit, band.b),
                         [&](auto f) { multiply_band<decltype(f)::format>(w, bands, band, p, &of_band); });
        done = way_step(band.way + 1) - way_step(band.way);
    }
    for (; done < STEPS && (!RESIDENT || PASSES > 1); done++) { // the others' columns
        if (!RESIDENT) slot_wait(w, p->place);
        slot_done(w, bands, p);
    }
#if HAS_CLUSTER
    cluster_finish(w, *p, n_rows, finish);
    return;
#endif
    if (!SPLIT) {
        total[0] *= factors.of[0], total[1] *= factors.of[0];
        total[2] *= factors.of[1], total[3] *= factors.of[1];
        if (!ALONE && pass > 1) pass_wait(w, pass - 1);
        if (band.any) store_sums(total, sums + band.b * BAND_ROWS, SUM_STRIDE);
    }
    // A warp may be one pass ahead of another, not two: the barrier counts the arrivals of one. (Later passes
    // have waited for their buffer.)
    if (!ALONE && PASSES > 1 && pass == 1) pass_wait(w, 0);
    if (ALONE) warp_sync();
    else pass_done(w);
    bool finishes = band_finishes(band);
    if (!ALONE && finishes) pass_wait(w, pass);
    if (finishes && K_BLOCKS > 1) finishes = is_last_warp(a.meetings + band.unit, K_BLOCKS);
    u32 first = finish_row(band), end = MIN(first + FINISH_ROWS, n_rows);
    if (finishes && first < end) {
        if (K_BLOCKS > 1) {
            add_segments(factors, first, end, band_floats, stride, sums,
                         [&](u32 at) { return load_shared_data(parts + at); });
        } else if (SPLIT) {
            add_segments(factors, first, end, band_floats, stride, sums, [&](u32 at) { return parts[at]; });
        }
        if (SPLIT) warp_sync();
        finish(band.unit, first, end - first, sums + first * SUM_STRIDE);
        if (ALONE) warp_sync(); // the sums have been read
    }
#if !HAS_BULK
    if (!ALONE) block_sync();
#endif
}

template <class Bands, class Finish>
DEVICE void product_run(const ProductArgs &a, u32 block, u8 *shared, const Bands &bands, Product *p,
                        const Finish &finish) {
    if (!product_multiplies()) return;
    (void)block;
    u32 n_rows = MIN(batch_rows(a), (u32)MAX_ROWS);
    Worker w = {shared, lane_input(shared), way_step(p->units.part * K_WAYS) * STEP_HALVES, a.partial};
#ifdef NORM_INPUT
    product_norm(a, block, shared, n_rows, p);
#else
    product_load(a, shared, *p);
#endif
    // A constant where it can be: NVRTC 12.4 does not end otherwise (sm_75, 640 columns in three ways).
    u32 n_passes = PASSES == 1 ? 1u : p->units.passes;
#pragma unroll 1
    for (u32 pass = 0; pass < n_passes; pass++) {
        product_pass(a, w, bands, p, pass, n_rows, finish);
    }
}
