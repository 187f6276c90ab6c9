// Of product_many.cuh: a block on sm_90a, four warps that multiply together and two that fetch.

#if HAS_WGMMA
// ---- sm_90a: fetching ----

struct Ring {
    u8 *weights, *rows;
    BulkBarrier *weights_full, *weights_read, *rows_full, *rows_read;
};
DEVICE Ring product_ring(u8 *shared) {
    BulkBarrier *b = (BulkBarrier *)(shared + BARRIERS_AT);
    return {shared,           shared + ROWS_AT,     b,
            b + WEIGHT_SLOTS, b + 2 * WEIGHT_SLOTS, b + 2 * WEIGHT_SLOTS + ROWS_SLOTS};
}

// Whether a way has 128 columns `half` of its own in step `step` (of 256 columns).
DEVICE bool way_has(u32 way, u32 step, u32 half) {
    u32 chunk = way_chunk(way) + step;
    return chunk < way_chunk(way + 1) && (COL_HALVES % 2 == 0 || chunk * 2 + half < COL_HALVES);
}

// A lane's part of a pass's copies: a run of bands that are neighbours in memory.
struct LaneCopy {
    const u8 *from; // of the way's first chunk
    u32 to;         // in the slot
    u32 bytes;      // of a tile of each; 0: none
    u32 tile;       // bytes of one tile
    u32 n_tiles;    // of a chunk
    u32 way;
};
template <class Bands> DEVICE LaneCopy lane_copy(const Pass &pass, u32 rank, const Bands &bands) {
    u32 lane = lane_index(), b = lane % PASS_BANDS / PASS_UNITS, place = lane % PASS_UNITS;
    bool any = lane < WARPS && place < pass.n_units;
    LaneCopy c = {0, 0, 0, 0, 1, rank * K_WAYS_BLOCK + MIN(lane / PASS_BANDS, K_WAYS_BLOCK - 1u)};
    if (any) {
        u32 unit = pass.unit + place;
        c.from = bands.tiles(unit, b);
        with_band_format(bands.format(unit, b), [&](auto f) {
            c.tile = layout_tile_bytes16(decltype(f)::format);
            c.n_tiles = tiles_of_chunk(decltype(f)::format);
        });
        c.from += (u64)(way_chunk(c.way) * c.n_tiles) * 4 * c.tile;
        c.to = lane / PASS_UNITS * CHUNK_PLANE + place * c.tile;
    }
    u64 before = shuffle_up((u64)c.from, 1);
    bool joins = any && place > 0 && before + c.tile == (u64)c.from;
    u32 follow = ballot_lanes(joins);
    if (any && !joins) {
        u32 run = 1; // bands that go with this one
        while (lane + run < WARP && (follow >> (lane + run) & 1)) {
            run++;
        }
        c.bytes = run * c.tile;
    }
    return c;
}

// Bytes of a step's weights, of all the pass's bands.
template <class Bands> DEVICE u32 step_bytes(const Pass &pass, u32 rank, u32 step, const Bands &bands) {
    u32 bytes = 0;
#pragma unroll
    for (u32 b = 0; b < UNIT_BANDS; b++) {
        with_band_format(bands.format(pass.unit, b), [&](auto f) {
            constexpr int format = decltype(f)::format;
            for (u32 k = 0; k < K_WAYS_BLOCK; k++) {
                u32 way = rank * K_WAYS_BLOCK + k, n = way_has(way, step, 0);
                if (tiles_of_chunk(format) == 2 && way_has(way, step, 1)) n = 2;
                bytes += pass.n_units * n * layout_tile_bytes16(format);
            }
        });
    }
    return bytes;
}

// A step's weights into the next slot; one warp.
DEVICE void fetch_weights(const Ring &ring, RingPlace<WEIGHT_SLOTS> *place, const LaneCopy &c, u32 bytes,
                          u32 step) {
    BulkBarrier *full = ring.weights_full + place->slot;
    bulk_barrier_wait(ring.weights_read + place->slot, place->parity ^ 1);
    if (lane_index() == 0) bulk_barrier_expect(full, bytes);
    warp_sync();
    for (u32 t = 0; t < c.n_tiles && c.bytes > 0; t++) {
        if (!way_has(c.way, step, t)) break;
        const u8 *from = c.from + (u64)(step * c.n_tiles + t) * 4 * c.tile;
        u8 *to = ring.weights + place->slot * WEIGHT_SLOT + c.to + t * PASS_UNITS * c.tile;
        if (WEIGHTS_ONCE) bulk_copy_once(to, from, c.bytes, full);
        else bulk_copy(to, from, c.bytes, full);
    }
    place->advance();
}

// 128 columns of a pass's rows for each way; a lane a way.
DEVICE void fetch_rows(const Ring &ring, RingPlace<ROWS_SLOTS> *place, const Pass &pass, u32 rank,
                       u32 tile_rows, const f16 *in, u32 step, u32 half) {
    u32 way = rank * K_WAYS_BLOCK + lane_index();
    bool any = lane_index() < K_WAYS_BLOCK && way_has(way, step, half);
    u32 n = count_ones(ballot_lanes(any));
    BulkBarrier *full = ring.rows_full + place->slot;
    bulk_barrier_wait(ring.rows_read + place->slot, place->parity ^ 1);
    u32 bytes = NARROWS ? tile_rows * 128 : (u32)SHEET_BYTES; // of 64 columns
    if (lane_index() == 0) bulk_barrier_expect(full, n * 2 * bytes);
    warp_sync();
    if (any) {
        u8 *to = ring.rows + place->slot * ROWS_SLOT + lane_index() * 2 * SHEET_BYTES;
        u32 sheet = ((way_chunk(way) + step) * 2 + half) * 2;
        const f16 *from = in + ((u64)sheet * MAX_ROWS + pass.row) * 64;
        if (ROW_TILES_MAX == 1) {
            bulk_copy(to, from, 2 * SHEET_BYTES, full);
        } else {
            bulk_copy(to, from, bytes, full);
            bulk_copy(to + SHEET_BYTES, from + (u64)MAX_ROWS * 64, bytes, full);
        }
    }
    place->advance();
}

// ---- sm_90a: multiplying ----

struct ReadPlace {
    RingPlace<WEIGHT_SLOTS> weights;
    RingPlace<ROWS_SLOTS> rows;
};

// What a warp that has nothing to multiply does with steps: the others wait for its arrivals.
DEVICE void skip_half(const Ring &ring, ReadPlace *at) {
    bulk_barrier_wait(ring.rows_full + at->rows.slot, at->rows.parity);
    if (lane_index() == 0) bulk_barrier_arrive(ring.rows_read + at->rows.slot);
    at->rows.advance();
}
DEVICE void skip_steps(const Ring &ring, ReadPlace *at, u32 first, u32 end) {
#pragma unroll 1
    for (u32 step = first; step < end; step++) {
        bulk_barrier_wait(ring.weights_full + at->weights.slot, at->weights.parity);
        if (lane_index() == 0) bulk_barrier_arrive(ring.weights_read + at->weights.slot);
        at->weights.advance();
        skip_half(ring, at);
        skip_half(ring, at);
    }
}

DEVICE u32 slot_before(u32 slot) {
    return (slot > 0 ? slot : (u32)ROWS_SLOTS) - 1;
}

// A pass, in a tile of n_rows rows, of a warp whose weights have this format, with the three others of its
// group. While PAIRS pairs of steps are multiplied, the next are taken apart. `total` and the ends of
// segments: end_segment.
template <int format, u32 n_rows>
DEVICE void multiply_pass(const Ring &ring, ReadPlace *at, const WarpBand &w, u32 band, u32 rank, u8 *shared,
                          float *total) {
    constexpr u32 tile_bytes = layout_tile_bytes16(format), n_tiles = tiles_of_chunk(format);
    float sum[n_rows / 2] = {}; // (products begin with 0: this leaves its registers to others between passes)
    u32 a[2 * PAIRS][2][4], way = rank * K_WAYS_BLOCK + w.way, first = way_chunk(way),
                            end = way_chunk(way + 1);
#pragma unroll 1
    for (u32 chunk = first; chunk < end; chunk++) {
        const u8 *tiles = ring.weights + at->weights.slot * WEIGHT_SLOT +
                          (w.way * UNIT_BANDS + w.b) * CHUNK_PLANE + w.place * tile_bytes;
        bool begins = chunk % SEGMENT_CHUNKS == 0; // a segment
        Tile<format> t;
        bulk_barrier_wait(ring.weights_full + at->weights.slot, at->weights.parity);
#pragma unroll
        for (u32 h = 0; h < 2; h++) {
            if (COL_HALVES % 2 && h == 1 && chunk * 2 + h >= COL_HALVES) break;
            const u8 *tile = n_tiles == 2 ? tiles + h * PASS_UNITS * tile_bytes : tiles;
            if (n_tiles == 2 || h == 0) t.scales(tile);
            t.half(tile, n_tiles == 2 ? 0 : h);
            const u8 *rows = ring.rows + at->rows.slot * ROWS_SLOT + w.way * 2 * SHEET_BYTES;
#pragma unroll
            for (u32 j = 0; j < 4; j += PAIRS) {
                u32(*pairs)[2][4] = a + j % (2 * PAIRS);
#pragma unroll
                for (u32 i = 0; i < PAIRS; i++) {
                    t.pair(n_tiles == 2 ? 0 : h, j + i, pairs[i]);
                }
                if (h == 0 && j == 0 && begins && chunk > first) {
                    warpgroup_wait<0>();
                    warpgroup_keep<n_rows / 2>(sum);
                    end_segment<n_rows>(shared, chunk / SEGMENT_CHUNKS - 1, band, sum, total);
                }
                if (j == 0) bulk_barrier_wait(ring.rows_full + at->rows.slot, at->rows.parity);
                warpgroup_fence();
#pragma unroll
                for (u32 i = 0; i < PAIRS; i++) {
                    MatrixRows sheet = matrix_rows(rows + (j + i) / 2 * SHEET_BYTES);
                    warpgroup_multiply_half<n_rows>(sum, pairs[i], sheet, (j + i) % 2,
                                                    h == 0 && j + i == 0 && begins);
                }
                warpgroup_commit();
                warpgroup_wait<1>();
                // The slot before this one has been multiplied.
                if (j == 0 && (h > 0 || chunk > first) && lane_index() == 0)
                    bulk_barrier_arrive(ring.rows_read + slot_before(at->rows.slot));
            }
            at->rows.advance();
        }
        if (lane_index() == 0) bulk_barrier_arrive(ring.weights_read + at->weights.slot);
        at->weights.advance();
    }
    warpgroup_wait<0>();
    warpgroup_keep<n_rows / 2>(sum);
    if (lane_index() == 0) bulk_barrier_arrive(ring.rows_read + slot_before(at->rows.slot));
    end_segment<n_rows>(shared, CEIL_DIV(end, SEGMENT_CHUNKS) - 1, band, sum, total);
    if (COL_HALVES % 2 && end == COL_CHUNKS) skip_half(ring, at);
    if (K_WAYS_BLOCK > 1) skip_steps(ring, at, end - first, block_steps(rank));
}

// ---- sm_90a: a block ----

template <class Bands>
DEVICE void product_prepare(const ProductArgs &a, u32 block, u8 *shared, const Bands &bands, Product *p) {
    Ring ring = product_ring(shared);
    if (thread_index() == 0) {
        for (u32 i = 0; i < WEIGHT_SLOTS; i++) {
            bulk_barrier_init(ring.weights_full + i, 1);
            bulk_barrier_init(ring.weights_read + i, WARPS);
        }
        for (u32 i = 0; i < ROWS_SLOTS; i++) {
            bulk_barrier_init(ring.rows_full + i, 1);
            bulk_barrier_init(ring.rows_read + i, WARPS);
        }
        bulk_barrier_init_fence();
    }
    p->passes = all_passes(a, bands);
    p->weights = {0, 0};
    p->fetched = 0;
    block_sync();
    u32 rank = block % K_WAYS_CLUSTER, number = block / K_WAYS_CLUSTER;
    if (uniform_warp() == WARPS && number < p->passes.n) {
        Pass pass = pass_at(p->passes, bands, number);
        LaneCopy c = lane_copy(pass, rank, bands);
        p->fetched = MIN(block_steps(rank), (u32)WEIGHT_SLOTS);
#pragma unroll 1
        for (u32 step = 0; step < p->fetched; step++) {
            if (step >= FLIGHT_SLOTS) bulk_barrier_wait(ring.weights_full + step - FLIGHT_SLOTS, 0);
            fetch_weights(ring, &p->weights, c, step_bytes(pass, rank, step, bands), step);
        }
    }
    if (CODEBOOKS_BYTES > 0 && product_multiplies()) {
        load_codebooks(WARPS * WARP);
        product_meet(shared, p);
    }
}

// A step's part of a pass.
template <class Finish> DEVICE void foresee(const Finish &finish, const Pass &pass, u32 step, u32 n_steps) {
    u32 first = pass.n_rows * step / n_steps, end = pass.n_rows * (step + 1) / n_steps;
    finish.foresee(pass.unit, pass.n_units, pass.row + first, end - first);
}

template <class Bands, class Finish>
DEVICE void product_fetch(const ProductArgs &a, u32 block, u8 *shared, const Bands &bands, Product *p,
                          const Finish &finish) {
    Ring ring = product_ring(shared);
    u32 rank = block % K_WAYS_CLUSTER, steps = block_steps(rank);
    u32 warp = uniform_warp();
    bool weights = warp == WARPS, rows = warp == WARPS + 1;
    RingPlace<ROWS_SLOTS> rows_place = {0, 0};
    if (!weights && !rows) return;
#pragma unroll 1
    for (u32 n = block / K_WAYS_CLUSTER; n < p->passes.n; n += CLUSTERS) {
        Pass pass = pass_at(p->passes, bands, n);
        LaneCopy c = {};
        if (weights) c = lane_copy(pass, rank, bands);
#pragma unroll 1
        for (u32 step = 0; step < steps; step++) {
            if (weights && step >= p->fetched)
                fetch_weights(ring, &p->weights, c, step_bytes(pass, rank, step, bands), step);
            for (u32 half = 0; rows && half < 2; half++) {
                fetch_rows(ring, &rows_place, pass, rank, p->passes.tile_rows, a.in, step, half);
            }
            if (rows && p->passes.n > CLUSTERS) foresee(finish, pass, step, steps); // of several turns
        }
        p->fetched = 0;
        if (ONE_TURN) break;
    }
}

// Those that share columns: the block's warps, or all threads of a cluster, which has one pass alone.
DEVICE void parts_meet(u8 *shared, Product *p) {
#if K_WAYS_CLUSTER > 1
    (void)shared, (void)p;
    cluster_sync();
#else
    product_meet(shared, p);
#endif
}
DEVICE void parts_end(u8 *shared, Product *p) {
#if K_WAYS_CLUSTER > 1
    (void)shared, (void)p;
    cluster_end();
#else
    if (!ONE_TURN) product_meet(shared, p);
#endif
}

// All passes of a block, in tiles of tile_rows rows.
template <u32 tile_rows, class Bands, class Finish>
DEVICE void product_multiply(u32 block, u8 *shared, const Bands &bands, Product *p, const Finish &finish) {
    Ring ring = product_ring(shared);
    u32 rank = block % K_WAYS_CLUSTER, warp = uniform_warp();
    ReadPlace at = {{0, 0}, {0, 0}};
    if (SKEWED && warp >= 4 && block / K_WAYS_CLUSTER < p->passes.n)
        bulk_barrier_wait(ring.rows_full + MIN((u32)ROWS_SLOTS, 4u) - 1, 0);
#pragma unroll 1
    for (u32 n = block / K_WAYS_CLUSTER; n < p->passes.n; n += CLUSTERS) {
        Pass pass = pass_at(p->passes, bands, n);
        WarpBand w = warp_band(warp, pass.n_units);
        BandFactors factors = {};
        PartTask<Finish> task = {};
        if constexpr (SPLIT) task = part_task(pass, first_task(rank), bands, finish);
        else factors = band_factors_of(bands, pass.unit + w.place, w.b);
        float total[tile_rows / 2];
#pragma unroll
        for (u32 i = 0; i < tile_rows / 2; i++) {
            total[i] = 0;
        }
        if (warp % PASS_BANDS / GROUP_BANDS * (GROUP_BANDS / UNIT_BANDS) < pass.n_units) {
            with_band_format(bands.format(pass.unit + w.place, w.b), [&](auto f) {
                multiply_pass<decltype(f)::format, tile_rows>(ring, &at, w, warp % PASS_BANDS, rank, shared,
                                                              total);
            });
        } else {
            skip_steps(ring, &at, 0, block_steps(rank));
        }
        if constexpr (SPLIT) {
            parts_meet(shared, p); // all parts are there
            finish_parts(pass, rank, task, shared, bands, finish);
            parts_end(shared, p); // nobody reads them any more
        } else {
            finish_totals<tile_rows>(pass, w, total, factors, shared, finish);
        }
        if (ONE_TURN) break;
    }
}

template <class Bands, class Finish>
DEVICE void product_run(const ProductArgs &a, u32 block, u8 *shared, const Bands &bands, Product *p,
                        const Finish &finish) {

    if (product_multiplies()) {
        if (GIVES_REGISTERS) registers_take<TAKEN_REGISTERS>();
        constexpr u32 narrow = NARROWS ? (u32)NARROW_ROWS : (u32)TILE_ROWS;
        if (NARROWS && p->passes.tile_rows == narrow)
            product_multiply<narrow>(block, shared, bands, p, finish);
        else product_multiply<TILE_ROWS>(block, shared, bands, p, finish);
    } else {
        if (GIVES_REGISTERS) registers_give<KEPT_REGISTERS>();
        product_fetch(a, block, shared, bands, p, finish);
#if K_WAYS_CLUSTER > 1
        warp_sync();
        if (block / K_WAYS_CLUSTER < p->passes.n) {
            cluster_sync(); // as in product_multiply
            cluster_end();
        }
#endif
    }
}
#endif
