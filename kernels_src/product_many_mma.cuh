// Of product_many.cuh: a block before sm_90a, where each warp copies and multiplies for itself.

#if !HAS_WGMMA
// ---- before sm_90a ----

// What is copied in a step of 128 columns: every way's rows, and with every second step its bands' next 256
// columns.
template <class Bands>
DEVICE void fetch_step(const ProductArgs &a, u8 *shared, const Pass &pass, const WarpBand &w,
                       const Bands &bands, u32 step) {
    u32 half = way_chunk(w.way) * 2 + step, chunk = half / 2;
    if (half < MIN(way_chunk(w.way + 1) * 2, (u32)COL_HALVES)) {
        u8 *to = shared + ROWS_AT + step % ROWS_SLOTS * ROWS_SLOT + w.way * 2 * SHEET_BYTES;
        for (u32 i = thread_index() % (PASS_BANDS * WARP) * 16; i < 2 * SHEET_BYTES;
             i += PASS_BANDS * WARP * 16) {
            u64 sheet = (u64)half * 2 + i / SHEET_BYTES;
            const u8 *from = (const u8 *)(a.in + (sheet * MAX_ROWS + pass.row) * 64);
            copy_async_16(to + i, from + i % SHEET_BYTES);
        }
        if (step % 2 == 0 && w.any) {
            to = shared + step / 2 % WEIGHT_SLOTS * WEIGHT_SLOT + (w.way * UNIT_BANDS + w.b) * CHUNK_PLANE +
                 w.place * CHUNK_BYTES_MAX;
            const u8 *from = bands.tiles(pass.unit + w.place, w.b);
            with_band_format(bands.format(pass.unit + w.place, w.b), [&](auto f) {
                constexpr int format = decltype(f)::format;
                constexpr u32 bytes = layout_tile_bytes16(format);
                for (u32 t = 0; t < tiles_there(format, chunk); t++) {
                    const u8 *tile = from + (u64)(chunk * tiles_of_chunk(format) + t) * 4 * bytes;
                    for (u32 i = lane_index() * 16; i < bytes; i += WARP * 16) {
                        copy_async_16(to + t * bytes + i, tile + i);
                    }
                }
            });
        }
    }
    copy_async_commit(); // also an empty group: the wait counts them
}

// Two steps of 16 columns: a warp's weights with all rows.
DEVICE void multiply_pair(const u8 *rows, u32 j, const u32 a[2][4], float sum[SUMS]) {
    u32 lane = lane_index();
#pragma unroll
    for (u32 i = 0; i < TILE_ROWS / 8; i++) {
        u32 b[4];
        load_matrix_4(b, rows + j / 2 * SHEET_BYTES + (i * 8 + lane % 8) * 128 +
                             ((j % 2 * 4 + lane / 8) ^ (lane % 8)) * 16);
        mma_f16(sum + i * 4, a[0], b);
        mma_f16(sum + i * 4, a[1], b + 2);
    }
}

// A chunk's 128 columns h.
template <int format>
DEVICE void multiply_half_chunk(Tile<format> *t, const u8 *weights, const u8 *rows, u32 h, float sum[SUMS]) {
    constexpr bool two = tiles_of_chunk(format) == 2;
    const u8 *tile = two ? weights + h * layout_tile_bytes16(format) : weights;
    t->scales(tile);
    t->half(tile, two ? 0 : h);
#pragma unroll
    for (u32 j = 0; j < 4; j++) {
        u32 a[2][4];
        t->pair(two ? 0 : h, j, a);
        multiply_pair(rows, j, a, sum);
    }
}

template <class Bands>
DEVICE void multiply_pass(const ProductArgs &a, u8 *shared, const Pass &pass, const WarpBand &w, u32 band,
                          const Bands &bands, float total[SUMS]) {
    float sum[SUMS];
    u32 first = way_chunk(w.way), end = way_chunk(w.way + 1);
    for (u32 i = 0; i < AHEAD; i++) {
        fetch_step(a, shared, pass, w, bands, i);
    }
#pragma unroll 1
    for (u32 step = 0; step < CHUNKS * 2; step++) {
        copy_async_wait<AHEAD - 1>();
        block_sync(); // this step is here, and the one whose place is filled next has been read
        fetch_step(a, shared, pass, w, bands, step + AHEAD);
        u32 chunk = first + step / 2;
        if (chunk >= end || chunk * 2 + step % 2 >= COL_HALVES) continue;
        if (step % 2 == 0 && chunk % SEGMENT_CHUNKS == 0) {
#pragma unroll
            for (u32 i = 0; i < SUMS; i++) {
                sum[i] = 0;
            }
        }
        const u8 *rows = shared + ROWS_AT + step % ROWS_SLOTS * ROWS_SLOT + w.way * 2 * SHEET_BYTES,
                 *weights = shared + step / 2 % WEIGHT_SLOTS * WEIGHT_SLOT +
                            (w.way * UNIT_BANDS + w.b) * CHUNK_PLANE + w.place * CHUNK_BYTES_MAX;
        with_band_format(bands.format(pass.unit + w.place, w.b), [&](auto f) {
            Tile<decltype(f)::format> t;
#pragma unroll
            for (u32 h = 0; h < 2; h++) {
                if (step % 2 == h) multiply_half_chunk<decltype(f)::format>(&t, weights, rows, h, sum);
            }
        });
        bool last_half = step % 2 == 1 || chunk * 2 + 1 >= COL_HALVES;
        if (last_half && ((chunk + 1) % SEGMENT_CHUNKS == 0 || chunk + 1 == end))
            end_segment<TILE_ROWS>(shared, chunk / SEGMENT_CHUNKS, band, sum, total);
    }
    copy_async_wait<0>();
    block_sync();
}

template <class Bands>
DEVICE void product_prepare(const ProductArgs &a, u32, u8 *, const Bands &bands, Product *p) {
    load_codebooks(PRODUCT_THREADS); // before the block_sync of the first step
    p->passes = all_passes(a, bands);
}

template <class Bands, class Finish>
DEVICE void product_run(const ProductArgs &a, u32 block, u8 *shared, const Bands &bands, Product *p,
                        const Finish &finish) {
#pragma unroll 1
    for (u32 n = block; n < p->passes.n; n += BLOCKS) {
        Pass pass = pass_at(p->passes, bands, n);
        WarpBand w = warp_band(warp_index(), pass.n_units);
        BandFactors factors = {};
        PartTask<Finish> task = {};
        if constexpr (SPLIT) task = part_task(pass, first_task(0), bands, finish);
        else factors = band_factors_of(bands, pass.unit + w.place, w.b);
        float total[SUMS];
#pragma unroll
        for (u32 i = 0; i < SUMS; i++) {
            total[i] = 0;
        }
        multiply_pass(a, shared, pass, w, warp_index() % PASS_BANDS, bands, total);
        if constexpr (SPLIT) {
            finish_parts(pass, 0, task, shared, bands, finish); // parts came before the last block_sync
            block_sync();
        } else {
            finish_totals<TILE_ROWS>(pass, w, total, factors, shared, finish);
        }
    }
}
#endif
