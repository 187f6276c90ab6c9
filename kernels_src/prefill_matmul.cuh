// Y = W X for the rows (tokens) of a step, on the tensor cores: the tile that a block computes. W stays
// quantised in memory; each lane dequantises the blocks that are its part of the operand, straight from
// global memory into registers.
//
// Units: 16 rows of the product's matrices that one warp takes at once, any rows: the stage says which. Tile:
// TILE_UNITS units by TILE_TOKENS tokens. Grid: UNIT_TILES * (MAX_ROWS / TILE_TOKENS) blocks, token tiles
// side by side, so that the blocks that run at once share weights; blocks past the step's tokens have nothing
// to do. The activations come through a ring in shared memory, 128 columns a slot:
//     sm_90a   a warp of its own fetches them with bulk copies; four warps, a unit each, multiply together
//     older    all warps copy; a warp multiplies two units by itself (mma)
//
// Order of the sums: columns in steps of 128, and in them products of 16 columns in the order of layout.h,
// each added to the f32 accumulator by the tensor core. It depends on neither the number of rows nor their
// place in the step. (OP_MATMUL.)
//
// Defines: N_COLS, UNITS, MAX_ROWS, TILE_TOKENS (64, 128 or 256; at most 128 before sm_90a), WARPS (that
// multiply: on sm_90a 4 or 8), RING_BYTES, FORMAT_0 (FORMAT_1, FORMAT_2 where there are several);
// BLOCKS_PER_SM. The stage gives a Rows object with
//     u32 projection(u32 unit)           which of FORMAT_0 … FORMAT_2 its rows have
//     const u8 *row(u32 unit, u32 r)      where row r < 16 starts
// Formats: format_runs.cuh; with ROW_FORMATS rows 0 to 7 of every unit have FORMAT_0, the others FORMAT_1.
#if !defined(N_COLS) || !defined(UNITS) || !defined(TILE_TOKENS) || !defined(WARPS) || \
    !defined(RING_BYTES) || !defined(FORMAT_0)
#error "N_COLS, UNITS, TILE_TOKENS, WARPS, RING_BYTES, FORMAT_0"
#endif
#ifndef BLOCKS_PER_SM
#define BLOCKS_PER_SM 1
#endif
#if N_COLS % 32 || MAX_ROWS % TILE_TOKENS
#error "N_COLS must be a multiple of 32, MAX_ROWS of TILE_TOKENS"
#endif
// The fetching warp is alone, or, beside eight warps that need more than the usual 168 registers, one of
// four.
#define FETCH_WARPS (HAS_WGMMA ? (WARPS == 8 && BLOCKS_PER_SM == 1 ? 4 : 1) : 0)
#define THREADS ((WARPS + FETCH_WARPS) * 32)

enum : u32 {
    WARP_UNITS = HAS_WGMMA ? 1 : 2,
    TILE_UNITS = WARPS * WARP_UNITS,
    UNIT_TILES = CEIL_DIV(UNITS, TILE_UNITS),
    STEPS = CEIL_DIV(N_COLS, PREFILL_COLS),
    COL_BLOCKS = N_COLS / BLOCK_WEIGHTS,
    TAIL_BLOCKS = COL_BLOCKS % TILE_BLOCKS, // of a row's last tile (layout.h); 0: it is full
    TILE_STEPS = TILE_WEIGHTS / PREFILL_COLS,
    SUMS = TILE_TOKENS / 2, // of a lane, for each unit: [TILE_TOKENS / 8][4] as mma_f16 has them

    SHEET_BYTES = TILE_TOKENS * 128, // 64 columns
    SLOT_BYTES = 2 * SHEET_BYTES,
    // Of older GPUs at least two: one comes while the other is read.
    SLOTS = MIN(RING_BYTES / SLOT_BYTES, HAS_WGMMA ? STEPS : MAX(STEPS, 2u)),
    // The sums of a warp's unit, once nobody reads the ring any more: [TILE_TOKENS][SUM_STRIDE] f32, 16 rows
    // of the unit a token. (A stride of 20 keeps the lanes' banks apart.)
    SUM_STRIDE = 20,
    WARP_SUM_BYTES = TILE_TOKENS * SUM_STRIDE * 4,
    BARRIERS_AT = MAX(SLOTS * SLOT_BYTES, WARPS *WARP_SUM_BYTES), // full [SLOTS], read [SLOTS], done
    MATMUL_SHARED_BYTES = BARRIERS_AT + (HAS_WGMMA ? SLOTS * 16 + 8 : 0),
    MATMUL_BLOCKS = UNIT_TILES * (MAX_ROWS / TILE_TOKENS),
};
static_assert(SLOTS >= 2 || STEPS == 1, "RING_BYTES holds at least two steps of TILE_TOKENS tokens");
static_assert(!HAS_WGMMA || WARPS % 4 == 0, "four warps multiply together");

// Which tile a block computes.
struct MatmulTile {
    u32 unit;   // the warp's first
    u32 token;  // the block's first
    u32 n_rows; // of the step
    bool any;   // the block has something to do
};
DEVICE MatmulTile matmul_tile(const StepSpan *span, u32 block) {
    u32 n_rows = span->n_rows, token_tiles = CEIL_DIV(n_rows, (u32)TILE_TOKENS);
    MatmulTile t;
    t.any = block < UNIT_TILES * token_tiles;
    t.unit = block / MAX(token_tiles, 1u) * TILE_UNITS + warp_index() % WARPS * WARP_UNITS;
    t.token = block % MAX(token_tiles, 1u) * TILE_TOKENS;
    t.n_rows = n_rows;
    return t;
}

// A lane's rows of its warp's units: g and g + 8 of each.
struct LaneRows {
    u32 format[WARP_UNITS]; // unit_format
    const u8 *row[WARP_UNITS][2];
};
template <class Rows> DEVICE LaneRows lane_rows(const Rows &rows, u32 first_unit) {
    LaneRows l;
    for (u32 i = 0; i < WARP_UNITS; i++) {
        u32 unit = MIN(first_unit + i, UNITS - 1u); // units past the end are computed and dropped
        l.format[i] = unit_format(rows, unit);
        l.row[i][0] = rows.row(unit, lane_index() / 4);
        l.row[i][1] = rows.row(unit, lane_index() / 4 + 8);
    }
    return l;
}

// A lane's weights are in buffers that take turns; each is loaded for its next turn as soon as its last words
// are dequantised. (A copy from one to another would wait for the load: with it, a step took 1.4 microseconds
// whatever the tile.) Each is one more copy of the loop's body to compile, which for tiles of 256 tokens
// takes a second (12.4: three); but their steps are long enough that a load is there at the end of the step
// that it began with, so that they have one buffer and such a copy.
enum : u32 { BUFFERS = !HAS_WGMMA ? 2 : TILE_TOKENS > 128 ? 1 : TILE_TOKENS > 64 || FORMATS > 1 ? 2 : 3 };

// A lane's weights of one unit for a step.
struct UnitWeights {
    WeightBlock block[2]; // rows g and g + 8
};
// The block of a step that this lane has: which one of its tile, and how many the tile has.
struct BlockPlace {
    u32 tile, n, i;
};
DEVICE BlockPlace block_place(u32 step) {
    BlockPlace p;
    p.tile = step / TILE_STEPS;
    p.n = TAIL_BLOCKS == 0 || (p.tile + 1) * TILE_BLOCKS <= COL_BLOCKS ? (u32)TILE_BLOCKS : (u32)TAIL_BLOCKS;
    p.i = step % TILE_STEPS * 4 + lane_index() % 4;
    if (N_COLS % PREFILL_COLS) p.i = MIN(p.i, p.n - 1); // multiplied by zeros
    return p;
}
template <class Run> DEVICE void load_rows(Run, const u8 *const row[2], u32 step, UnitWeights *w) {
    BlockPlace p = block_place(step);
    for (u32 r = Run::first; r < Run::end; r++) {
        Fragment<Run::format>::load(row[r] + p.tile * layout_tile_bytes(Run::format, TILE_BLOCKS), p.n, p.i,
                                    &w->block[r]);
    }
}
DEVICE void load_weights(const LaneRows &l, u32 unit, u32 step, UnitWeights *w) {
    with_format(l.format[unit], [&](auto run) { load_rows(run, l.row[unit], step, w); });
}

// Words [first, first + n) of both rows as operands: a[2 k] for the first 16 columns of a word, a[2 k + 1]
// for the next.
template <class Run>
DEVICE void dequantise_rows(Run, const UnitWeights &w, u32 step, u32 first, u32 n, u32 (*a)[4]) {
    u32 i = block_place(step).i;
#pragma unroll
    for (u32 r = Run::first; r < Run::end; r++) {
        BlockScale s;
        Fragment<Run::format>::scale(w.block[r], i, &s);
#pragma unroll
        for (u32 k = 0; k < n; k++) {
            u32 low[2], high[2];
            Fragment<Run::format>::word(w.block[r], s, first + k, low, high);
            a[2 * k][r] = low[0], a[2 * k][r + 2] = low[1];
            a[2 * k + 1][r] = high[0], a[2 * k + 1][r + 2] = high[1];
        }
    }
}
DEVICE void dequantise(u32 format, const UnitWeights &w, u32 step, u32 first, u32 n, u32 (*a)[4]) {
    with_format(format, [&](auto run) { dequantise_rows(run, w, step, first, n, a); });
}

#if HAS_WGMMA
struct MatmulRing {
    u8 *slots;
    BulkBarrier *full, *read;
    BulkBarrier *done; // no warp reads the ring any more
};
DEVICE MatmulRing matmul_ring(u8 *shared) {
    BulkBarrier *barriers = (BulkBarrier *)(shared + BARRIERS_AT);
    return {shared, barriers, barriers + SLOTS, barriers + 2 * SLOTS};
}

// Before the block's first block_sync.
DEVICE void matmul_prepare(u8 *shared) {
    MatmulRing ring = matmul_ring(shared);
    if (thread_index() > 0) return;
    for (u32 i = 0; i < SLOTS; i++) {
        bulk_barrier_init(ring.full + i, 1);
        bulk_barrier_init(ring.read + i, WARPS);
    }
    bulk_barrier_init(ring.done, WARPS);
    bulk_barrier_init_fence();
}

// The fetching warp's one lane.
DEVICE void matmul_fetch(const MatmulRing &ring, const f16 *in, u32 token) {
    u32 slot = 0, parity = 1; // a slot that was never filled counts as read
    for (u32 step = 0; step < STEPS; step++) {
        bulk_barrier_wait(ring.read + slot, parity);
        bulk_barrier_expect(ring.full + slot, SLOT_BYTES);
        for (u32 i = 0; i < 2; i++) {
            const f16 *from = in + ((u64)(step * 2 + i) * MAX_ROWS + token) * 64;
            bulk_copy(ring.slots + slot * SLOT_BYTES + i * SHEET_BYTES, from, SHEET_BYTES, ring.full + slot);
        }
        if (++slot == SLOTS) slot = 0, parity ^= 1;
    }
}

DEVICE void multiply_half(u32 a[4][4], MatrixRows b, float *sums) {
    warpgroup_fence();
    warpgroup_multiply<TILE_TOKENS>(sums, a, b);
    warpgroup_commit();
    warpgroup_wait<1>(); // the other half's registers are free
}

// The multiplying warps. While one half of a step is multiplied, the other is dequantised.
DEVICE void matmul_multiply(const MatmulRing &ring, const LaneRows &rows, UnitWeights w[BUFFERS][1],
                            float sums[1][SUMS]) {
    u32 a[2][4][4], slot = 0, parity = 0;
#pragma unroll
    for (u32 i = 0; i < SUMS; i++) {
        sums[0][i] = 0;
    }
    warpgroup_keep<SUMS>(sums[0]);
    for (u32 first = 0; first < STEPS; first += BUFFERS) {
#pragma unroll
        for (u32 i = 0; i < BUFFERS; i++) {
            u32 step = first + i;
            if (step >= STEPS) break;
            u8 *sheets = ring.slots + slot * SLOT_BYTES;
            UnitWeights next;
            if (BUFFERS == 1) load_weights(rows, 0, MIN(step + 1, STEPS - 1u), &next);
            dequantise(rows.format[0], w[i][0], step, 0, 2, a[0]);
            bulk_barrier_wait(ring.full + slot, parity);
            multiply_half(a[0], matrix_rows(sheets), sums[0]);
            if (step > 0 && lane_index() == 0)
                bulk_barrier_arrive(ring.read + (slot > 0 ? slot : (u32)SLOTS) - 1);
            dequantise(rows.format[0], w[i][0], step, 2, 2, a[1]);
            if (BUFFERS > 1 && step + BUFFERS < STEPS) load_weights(rows, 0, step + BUFFERS, &w[i][0]);
            multiply_half(a[1], matrix_rows(sheets + SHEET_BYTES), sums[0]);
            if (BUFFERS == 1) w[0][0] = next;
            if (++slot == SLOTS) slot = 0, parity ^= 1;
        }
    }
    warpgroup_wait<0>();
    warpgroup_keep<SUMS>(sums[0]);
    if (lane_index() == 0) bulk_barrier_arrive(ring.done);
    bulk_barrier_wait(ring.done, 0);
}

// All of the block's threads. After the stage's block_sync and stage_wait. False: the fetching warp, which
// has no sums.
DEVICE bool matmul_run(const MatmulTile &t, const f16 *in, const LaneRows &rows, UnitWeights w[BUFFERS][1],
                       u8 *shared, float sums[1][SUMS]) {
    MatmulRing ring = matmul_ring(shared);
    if (warp_index() >= WARPS) {
        if (FETCH_WARPS == 4) registers_give<24>();
        if (thread_index() == WARPS * WARP) matmul_fetch(ring, in, t.token);
        return false;
    }
    if (FETCH_WARPS == 4) registers_take<240>();
    matmul_multiply(ring, rows, w, sums);
    return true;
}
#else
DEVICE void matmul_prepare(u8 *) {
}

DEVICE void matmul_fetch(u8 *shared, const f16 *in, u32 token, u32 step) {
    if (step < STEPS) {
        for (u32 i = thread_index() * 16; i < SLOT_BYTES; i += THREADS * 16) {
            const f16 *from = in + ((u64)(step * 2 + i / SHEET_BYTES) * MAX_ROWS + token) * 64;
            copy_async_16(shared + step % SLOTS * SLOT_BYTES + i, (const u8 *)from + i % SHEET_BYTES);
        }
    }
    copy_async_commit(); // also an empty group: the wait counts them
}

// One word of all units, i.e. two products of 16 columns: sheet `sheet`, its columns from 16 * column on.
DEVICE void multiply_word(const u8 *sheet, u32 column, u32 a[WARP_UNITS][2][4],
                          float sums[WARP_UNITS][SUMS]) {
    u32 lane = lane_index();
#pragma unroll
    for (u32 j = 0; j < TILE_TOKENS / 8; j++) {
        u32 b[4], row = j * 8 + lane % 8;
        load_matrix_4(b, sheet + row * 128 + (((column * 2 + lane / 8) ^ (row % 8)) * 16));
#pragma unroll
        for (u32 u = 0; u < WARP_UNITS; u++) {
            mma_f16(sums[u] + j * 4, a[u][0], b);
            mma_f16(sums[u] + j * 4, a[u][1], b + 2);
        }
    }
}

DEVICE void multiply_step(const u8 *slot, const LaneRows &rows, const UnitWeights w[WARP_UNITS], u32 step,
                          float sums[WARP_UNITS][SUMS]) {
#pragma unroll
    for (u32 word = 0; word < 4; word++) {
        u32 a[WARP_UNITS][2][4];
#pragma unroll
        for (u32 u = 0; u < WARP_UNITS; u++) {
            dequantise(rows.format[u], w[u], step, word, 1, a[u]);
        }
        multiply_word(slot + word / 2 * SHEET_BYTES, word % 2 * 2, a, sums);
    }
}

DEVICE bool matmul_run(const MatmulTile &t, const f16 *in, const LaneRows &rows,
                       UnitWeights w[BUFFERS][WARP_UNITS], u8 *shared, float sums[WARP_UNITS][SUMS]) {
#pragma unroll
    for (u32 i = 0; i < WARP_UNITS * SUMS; i++) {
        sums[i / SUMS][i % SUMS] = 0;
    }
    for (u32 i = 0; i + 1 < SLOTS; i++) {
        matmul_fetch(shared, in, t.token, i);
    }
    for (u32 first = 0; first < STEPS; first += BUFFERS) {
#pragma unroll
        for (u32 i = 0; i < BUFFERS; i++) {
            u32 step = first + i;
            if (step >= STEPS) break;
            copy_async_wait<(SLOTS > 1 ? SLOTS - 2 : 0)>();
            block_sync(); // this slot is here, and the one that is filled next has been read
            matmul_fetch(shared, in, t.token, step + SLOTS - 1);
            multiply_step(shared + step % SLOTS * SLOT_BYTES, rows, w[i], step, sums);
            for (u32 u = 0; u < WARP_UNITS && step + BUFFERS < STEPS; u++) {
                load_weights(rows, u, step + BUFFERS, &w[i][u]);
            }
        }
    }
    copy_async_wait<0>();
    block_sync();
    return true;
}
#endif

// A warp's sums of one unit, from its lanes' registers to where all its lanes find them.
DEVICE void spread_sums(const float sums[SUMS], float *out) {
    float *lane = out + lane_index() % 4 * 2 * SUM_STRIDE + lane_index() / 4;
    warp_sync(); // what was there has been read
#pragma unroll
    for (u32 i = 0; i < SUMS; i++) {
        lane[(i / 4 * 8 + i % 2) * SUM_STRIDE + i % 4 / 2 * 8] = sums[i];
    }
    warp_sync();
}

// What each product's stage does with its tile but for its rows and what it makes of the sums: finish(t,
// unit, sums) is called by whole warps, for units below UNITS; sums[token * SUM_STRIDE + r] in shared memory
// is that of row r < 16 and the tile's token. Rows are known before stage_wait, `in` need not be.
// (Sums in shared memory: a stage's loop over tokens compiles to little code, and can load what it adds to
// for many tokens before it stores the first.)
template <class Rows, class Finish>
DEVICE void matmul_tile_run(const MatmulTile &t, const f16 *in, u8 *shared, const Rows &rows,
                            const Finish &finish) {
    LaneRows lane = lane_rows(rows, t.unit);
    UnitWeights w[BUFFERS][WARP_UNITS];
#pragma unroll
    for (u32 i = 0; i < BUFFERS * WARP_UNITS; i++) {
        if (i / WARP_UNITS < STEPS)
            load_weights(lane, i % WARP_UNITS, i / WARP_UNITS, &w[i / WARP_UNITS][i % WARP_UNITS]);
    }
    matmul_prepare(shared);
    block_sync();
    stage_wait();
    float sums[WARP_UNITS][SUMS];
    if (!matmul_run(t, in, lane, w, shared, sums)) return;
    float *spread = (float *)(shared + warp_index() * WARP_SUM_BYTES);
#pragma unroll
    for (u32 u = 0; u < WARP_UNITS; u++) {
        spread_sums(sums[u], spread);
        if (t.unit + u < UNITS) finish(t, t.unit + u, spread);
    }
}

template <class Rows, class Finish>
DEVICE void matmul_stage(const StepSpan *span, const f16 *in, u32 block, u8 *shared, const Rows &rows,
                         const Finish &finish) {
    MatmulTile t = matmul_tile(span, block);
    if (t.any) matmul_tile_run(t, in, shared, rows, finish);
}
