// Of product_few.cuh: what comes into shared memory, weights through the ring and activations at once.

// ---- fetching ----

#if HAS_BULK

// Whether a lane's piece (any: it has one) is as large as that of the lane before it and lies behind it.
DEVICE bool joins_lane_before(const LaneCopy &c, bool any) {
    bool is_whole = any && c.tile == 0; // a step of one tile
    u32 bytes_before = shuffle_up(is_whole ? c.bytes : 0u, 1);
    u64 from_before = shuffle_up((u64)c.from, 1);
    return is_whole && lane_index() % PASS_BANDS != 0 && bytes_before == c.bytes &&
           from_before + bytes_before == (u64)c.from;
}

// early: of the units that are early, or of the others.
template <class Bands>
DEVICE LaneCopy lane_copy(const BlockUnits &u, const Bands &bands, u32 pass, bool early = false) {
    u32 lane = lane_index();
    WarpBand w = warp_band(u, pass, lane);
    if (HAS_EARLY) w.any = w.any && early == (w.unit >= UNITS - EARLY_UNITS);
    LaneCopy c = {0, 0, 0, 0, 0, 0, 0};
    if (w.any) {
        c.at = piece_at(u, bands, w, lane);
        const u8 *tiles = bands.tiles(w.unit, w.b);
        with_band_format(bands.format(w.unit, w.b), [&](auto f) {
            constexpr u32 tile = layout_tile_bytes16(decltype(f)::format),
                          bytes = step_bytes(decltype(f)::format);
            c.stride = 4 * bytes;
            c.from = tiles + (u64)way_step(w.way) * c.stride;
            c.bytes = bytes;
            c.tile = bytes == tile ? 0 : tile;
            c.steps = way_step(w.way + 1) - way_step(w.way);
        });
    }
    if (COPIES_MERGE) {
        bool joins = joins_lane_before(c, w.any);
        u32 follow = ballot_lanes(joins);
        follow = lane == 31 ? 0 : follow >> (lane + 1);
        u32 run = 1; // lanes that go with this one
        while (follow & 1) {
            run++;
            follow >>= 1;
        }
        c.bytes = joins ? 0 : run * c.bytes;
    }
    u32 before = count_ones(ballot_lanes(c.bytes > 0) & ((1u << lane) - 1));
    if (before % N_FETCHERS != warp_index() - FETCHER) c.bytes = 0;
    c.all = sum_of_lanes(c.bytes);
    return c;
}

// What a lane copies in a step: the last step of the columns may have one tile instead of two.
DEVICE u32 copy_bytes(const LaneCopy &c, u32 way, u32 step) {
    if (step >= c.steps) return 0;
    bool half = STEP_HALVES == 2 && COL_HALVES % 2 && c.tile > 0 && way_step(way) + step == COL_STEPS - 1;
    return half ? c.tile : c.bytes;
}

// keep: it stays in the L2 as long as anything else.
DEVICE void copy_weights(void *to, const u8 *from, u32 bytes, bool keep, BulkBarrier *full) {
    if (keep) bulk_copy(to, from, bytes, full);
    else bulk_copy_once(to, from, bytes, full);
}

DEVICE void copy_step(const LaneCopy &c, u32 bytes, u32 step, u8 *slot, bool keep, BulkBarrier *full) {
    if (bytes == 0) return;
    const u8 *from = c.from + (u64)step * c.stride;
    u8 *to = slot + c.at;
    if (STEP_HALVES == 2 && c.tile > 0) {
        for (u32 at = 0; at < bytes; at += c.tile) {
            copy_weights(to + at, from + 4 * at, c.tile, keep, full);
        }
    } else {
        copy_weights(to, from, bytes, keep, full);
    }
}

// A step of a pass into its slot: the lanes' part of it, and how many bytes come.
DEVICE void fetch_step(u8 *shared, const BlockUnits &u, const LaneCopy &c, u32 pass, u32 step, u32 slot) {
    BulkBarrier *full = product_barriers(shared).full + slot;
    u32 way = u.part * K_WAYS + MIN(lane_index() / PASS_BANDS, K_WAYS - 1u);
    u32 bytes = copy_bytes(c, way, step);
    u32 all = step + 1 < STEPS_OF_ALL ? c.all : sum_of_lanes(bytes);
    if (lane_index() == 0) bulk_barrier_expect(full, all);
    warp_sync();
    bool keep = pass * STEPS + step - SLOTS < KEPT_BYTES / SLOT_BYTES;
    copy_step(c, bytes, step, shared + slot * SLOT_BYTES, keep, full);
}

// One of the warps that fetch: its part of what the block reads of its weights, slot after slot. `c`: of the
// first pass.
template <class Bands>
DEVICE void product_fetch(u8 *shared, const BlockUnits &u, const Bands &bands, LaneCopy c, LaneCopy early) {
    Barriers b = product_barriers(shared);
    RingPlace place = {0, 1}; // a slot that was never filled counts as empty
    u32 number = 0, waited_slot = 0, waited_parity = 0;
#pragma unroll 1
    for (u32 pass = 0; pass < u.passes; pass++) {
        if (pass > 0) c = lane_copy(u, bands, pass);
        if (HAS_EARLY && pass > 0) early = lane_copy(u, bands, pass, true);
#pragma unroll 1
        for (u32 step = 0; step < STEPS; step++) {
            if (!RESIDENT) {
                bulk_barrier_wait(b.empty + place.slot, place.parity);
                if (FLIGHT < SLOTS && number++ >= FLIGHT) { // else no more than SLOTS are on their way
                    bulk_barrier_wait(b.full + waited_slot, waited_parity);
                    if (++waited_slot == SLOTS) waited_slot = 0, waited_parity ^= 1;
                }
            }
            fetch_step(shared, u, c, pass, step, place.slot);
            if (HAS_EARLY && (pass > 0 || step >= EARLY_STEPS))
                fetch_step(shared, u, early, pass, step, place.slot);
            ring_advance(&place);
        }
    }
}
#else
// This warp's own piece of a step; the steps of all passes are counted on.
template <class Bands>
DEVICE void product_fetch_step(u8 *shared, const BlockUnits &u, const Bands &bands, u32 n) {
    u32 pass = n / STEPS, step = n % STEPS, warp = warp_index();
    if (pass < u.passes) {
        WarpBand w = warp_band(u, pass, warp);
        u32 at = way_step(w.way) + step;
        if (w.any && at < way_step(w.way + 1)) {
            const u8 *tiles = bands.tiles(w.unit, w.b);
            u32 piece = piece_at(u, bands, w, warp);
            with_band_format(bands.format(w.unit, w.b), [&](auto f) {
                constexpr u32 tile = layout_tile_bytes16(decltype(f)::format);
                constexpr u32 n_tiles = step_bytes(decltype(f)::format) / tile;
                u8 *to = shared + n % SLOTS * SLOT_BYTES + piece;
                for (u32 k = 0; k < n_tiles; k++) {
                    if (n_tiles == 2 && at * 2 + k >= COL_HALVES) break;
                    const u8 *from = tiles + (u64)(at * n_tiles + k) * 4 * tile;
                    for (u32 i = lane_index() * 16; i < tile; i += WARP * 16) {
                        copy_async_16(to + k * tile + i, from + i);
                    }
                }
            });
        }
    }
    copy_async_commit(); // also an empty group: the wait counts them
}
#endif

// ---- the input ----

// Of a small stage the products wait for each other, so that an operand is loaded during the one before; of
// others a warp's wait is another's turn.
enum : u32 { OPERANDS = READY ? 2 : 1 };

// A lane's address in the activations: for ldmatrix, lane i gives row i % 8 of matrix i / 8. Of one row,
// lanes 4 g + c load the same 16 bytes for all g. With codebooks, where turns of the banks count, lanes
// 0 … 3 load all that is needed (with ldmatrix 16 turns for 64 weights a lane, not 4), into registers that
// the others keep, and so not before the product that reads them; without codebooks no load waits for one
// (0.7% of a step of 1B and of GPT-OSS-20B).
struct LaneInput {
#if MAX_ROWS == 1
    const u8 *at;
#else
    const u8 *at[2]; // of even and of odd pairs of steps
#endif
    u32 operand[OPERANDS][4]; // load_input's, in turn: of one row, most lanes keep them
};
DEVICE LaneInput lane_input(const u8 *shared) {
    u32 lane = lane_index();
#if MAX_ROWS == 1
    return {shared + X_AT + lane % 4 * 16, {}};
#else
    u32 row = lane % 8, unit = (lane / 8) ^ row;
    return {{shared + X_AT + row * 128 + unit * 16, shared + X_AT + row * 128 + (unit ^ 4) * 16}, {}};
#endif
}
// The operand of steps 2 j and 2 j + 1 of a half.
DEVICE const u32 *load_input(LaneInput *x, u32 half, u32 j) {
#if MAX_ROWS == 1
    const u8 *at = x->at + half * 2 * SHEET_BYTES + j * 64;
    u32 *operand = x->operand[j % OPERANDS];
    if (CODEBOOKS_BYTES > 0) {
        load_column(operand, at);
    } else {
        uint4 v = *(const uint4 *)at;
        operand[0] = v.x, operand[1] = v.y, operand[2] = v.z, operand[3] = v.w;
    }
#else
    load_matrix_4(x->operand[j % OPERANDS], x->at[j % 2] + (half * 2 + j / 2) * SHEET_BYTES);
#endif
    return x->operand[j % OPERANDS];
}

// Which of the block's inputs a unit has.
DEVICE u32 input_of(const BlockUnits &u, u32 unit) {
    return INPUTS == 1 ? 0 : unit / INPUT_UNITS - u.first / INPUT_UNITS;
}
DEVICE LaneInput at_input(LaneInput x, u32 input) {
#if MAX_ROWS == 1
    x.at += input * X_BYTES;
#else
    x.at[0] += input * X_BYTES;
    x.at[1] += input * X_BYTES;
#endif
    return x;
}

// The warps that multiply meet.
DEVICE void product_meet(u8 *, Product *) {
#if HAS_BULK
    group_sync(1, WARPS * WARP);
#else
    block_sync();
#endif
}

#ifdef NORM_INPUT
// Only the warps that multiply.
DEVICE void product_norm(const ProductArgs &a, u32 block, u8 *shared, u32 n_rows, Product *p) {
    auto meet = [&] { product_meet(shared, p); };
    f16 *out = (f16 *)(shared + X_AT);
    float *sums = (float *)(shared + NORM_AT);
#ifdef STAGE_HEAD
    auto row = [&](u32 i) {
        return a.x + (u64)(MAX_ROWS == 1 ? p->row : load_shared_data(a.logits_rows + i)) * N_COLS;
    };
#elif defined(POST_INPUT)
    NormPiece held[InputNorms::TURNS];
    p->post.run(a, block == 0, sums + InputNorms::SUMS, meet, held);
    NormHeldRow row = {held};
#else
    const float *row = a.x;
#endif
    (void)block;
    p->norm.run(row, n_rows, out, 0, sums, warp_index(), meet);
    meet();
}
#else
// The block's columns of its activations, each segment for itself.
DEVICE void product_load(const ProductArgs &a, u8 *shared, const Product &p) {
    u32 first = way_segment(p.units.part * K_WAYS), end = way_segment((p.units.part + 1) * K_WAYS);
    u32 from = segment_first_half(first) * 2 * SHEET_BYTES;
    u32 inputs = p.units.n > 0 ? input_of(p.units, block_unit(p.units, p.units.n - 1)) + 1 : 0;
    bool differ = (u32)INPUT_UNITS < (u32)UNITS; // also where a block has one unit, and so one input
    const u8 *in = (const u8 *)a.in + (differ ? (u64)(p.units.first / INPUT_UNITS) * IN_BYTES : 0);
#if HAS_BULK
    if (INPUT_BULK) {
        if (warp_index() > 0) return;
        u32 s = first + lane_index();
#pragma unroll 1
        for (u32 i = 0; i < inputs && s < end; i++) {
            BulkBarrier *input = product_barriers(shared).input + i * SEGMENTS + s;
            u32 at = segment_first_half(s) * 2 * SHEET_BYTES, to = segment_end_half(s) * 2 * SHEET_BYTES;
            bulk_barrier_expect(input, to - at);
            bulk_copy(shared + X_AT + i * X_BYTES + at - from, in + i * IN_BYTES + at, to - at, input);
        }
        warp_sync();
        return;
    }
#endif
    u32 bytes = segment_end_half(end - 1) * 2 * SHEET_BYTES - from;
#pragma unroll 1
    for (u32 k = 0; k < inputs; k++) {
#pragma unroll 4
        for (u32 i = 0; i < CEIL_DIV(X_BYTES, WARPS * WARP * 16); i++) {
            u32 at = (i * WARPS * WARP + thread_index()) * 16;
            if (at < bytes) copy_async_16(shared + X_AT + k * X_BYTES + at, in + k * IN_BYTES + from + at);
        }
    }
    copy_async_commit();
    copy_async_wait<0>();
    product_meet(shared, nullptr);
}
#endif
