// y = W x for one vector: the rows of one or more matrices stream through shared memory, a warp a unit of
// ROWS rows.
//
// Grid: BLOCKS blocks, at most one a multiprocessor. Block b has the units [UNITS b / BLOCKS, UNITS (b + 1) /
// BLOCKS), its warps take them in turn, and lane i of a warp has block i of each tile. Each warp has a ring
// of its own in shared memory: its first pieces (a stretch of some tiles of the unit's rows) are on their way
// before the stage waits for its input; later, a slot is refilled as soon as it is read, by one lane and the
// copy engine. No warp waits for another.
//
// Order of the sums, whatever the grid, the ring and the number of warps: lane i adds its blocks i, i + 32, …
// in that order; then lanes 16 apart, 8, 4, 2, 1. A batched stage that adds in this order gives the same
// bits. (OP_MATMUL.)
//
// Defines, besides activations.cuh's: UNITS, ROWS (1, 2 or 4), BLOCKS, RING_BYTES. SEGMENTS (1): how many
// places a row's columns are in, one after the other, N_COLS / SEGMENTS in each, with the layout of a row of
// its own. The stage gives a Rows object with
//     u32 projection(u32 unit)           which of FORMAT_0 … FORMAT_2 its rows have
//     const u8 *row(u32 unit, u32 r)      where row r starts; with segments, s * ROWS + r: segment s of row r
// (ROW_FORMATS: row 0 of every unit has FORMAT_0 and row 1 FORMAT_1: format_runs.cuh.)
// and a function that finishes units: finish(unit, sums), called by a whole warp with up to 32 units at once,
// one a lane (UINT32_MAX for none).
#if !defined(UNITS) || !defined(ROWS) || !defined(BLOCKS) || !defined(RING_BYTES)
#error "UNITS, ROWS, BLOCKS, RING_BYTES"
#endif

#ifndef PIECES
#define PIECES 3
#endif
#ifndef UNPACK_MAX
#define UNPACK_MAX 10
#endif
#ifndef SHARED_BYTES_MIN
#define SHARED_BYTES_MIN 0
#endif
// What a block that uses `bytes` of shared memory asks for, in its StageInfo.
#define SHARED_BYTES(bytes) MAX((u32)(bytes), (u32)SHARED_BYTES_MIN)
#ifndef SEGMENTS
#define SEGMENTS 1
#endif
#define ANY_FORMAT(format) (FORMAT_0 == (format) || FORMAT_1 == (format) || FORMAT_2 == (format))
#if N_COLS % (32 * SEGMENTS)
#error "a segment is whole blocks"
#endif
DEVICE constexpr u32 max_tile_bytes(u32 n) {
    return MAX(layout_tile_bytes(FORMAT_0, n),
               MAX(layout_tile_bytes(FORMAT_1, n), layout_tile_bytes(FORMAT_2, n)));
}

enum : u32 {
    SEGMENT_COLS = N_COLS / SEGMENTS,
    SEGMENT_BLOCKS = X_BLOCKS / SEGMENTS,
    // Of a segment, which is the whole row where there is one.
    TILES = CEIL_DIV(SEGMENT_BLOCKS, TILE_BLOCKS),
    TAIL_BLOCKS = SEGMENT_BLOCKS % TILE_BLOCKS, // of the last tile; 0: it is full
    MAX_ROW_BYTES = SEGMENT_BLOCKS / TILE_BLOCKS * max_tile_bytes(TILE_BLOCKS) + max_tile_bytes(TAIL_BLOCKS),
    UNITS_PER_WARP = CEIL_DIV(CEIL_DIV(UNITS, BLOCKS), WARPS),

    // Whole rows where all of the warp's fit, or three units at once do; else the largest stretches of which
    // three do.
    WARP_RING_BYTES = RING_BYTES / WARPS / 16 * 16,
    STRETCH_TILES_FIT = MAX(WARP_RING_BYTES / (PIECES * ROWS * max_tile_bytes(TILE_BLOCKS)), 1u),
    WHOLE_ROWS = ROWS * MAX_ROW_BYTES * MIN(UNITS_PER_WARP * SEGMENTS, (u32)PIECES) <= WARP_RING_BYTES,
    SEGMENT_STRETCHES = WHOLE_ROWS ? 1 : CEIL_DIV(TILES, STRETCH_TILES_FIT),
    STRETCHES = SEGMENTS * SEGMENT_STRETCHES, // of a unit
    STRETCH_TILES = CEIL_DIV(TILES, SEGMENT_STRETCHES),
    STRETCH_BYTES =
        SEGMENT_STRETCHES == 1 ? MAX_ROW_BYTES : STRETCH_TILES * max_tile_bytes(TILE_BLOCKS), // a row's
    SLOT_BYTES = ROWS * STRETCH_BYTES,
    DEPTH = MIN(WARP_RING_BYTES / SLOT_BYTES, UNITS_PER_WARP *STRETCHES),
    RESIDENT = DEPTH == UNITS_PER_WARP * STRETCHES, // nothing is left to fetch after the first pieces
    // Where all weights are there before the input, and are few, they wait for it unpacked in registers.
    // Of 2.0 us of a small stage (one tile a row), 0.3 were spent on taking bits apart.
    BLOCKS_PER_LANE = UNITS_PER_WARP * ROWS * SEGMENTS * TILES,
    REGISTERS = 65536 / (THREADS * BLOCKS_PER_SM), // of a thread
    UNPACKED = RESIDENT && SEGMENTS == 1 && !X_FLOATS && !ANY_FORMAT(FORMAT_Q2_K) &&
               BLOCKS_PER_LANE <= UNPACK_MAX && BLOCKS_PER_LANE * 11 + 40 <= REGISTERS,
    UNPACKED_UNITS = UNPACKED ? UNITS_PER_WARP : 1u,
    UNPACKED_TILES = UNPACKED ? TILES : 1u,
    // Units whose sums are made side by side, a power of two. Where all weights are there, their latencies
    // overlap; a stream has the other warps for that.
    BATCH = !RESIDENT || UNITS_PER_WARP == 1   ? 1
            : UNITS_PER_WARP == 2              ? 2
            : UNITS_PER_WARP <= 4 || !UNPACKED ? 4
                                               : 8,

    // The block's shared memory, from its start: slots, barriers, activations, then what the stage adds.
    RING_END = WARPS * DEPTH * SLOT_BYTES,
    X_AT = ROUND_UP(RING_END + WARPS * DEPTH * 8, 16),
    SPANS_AT = X_AT + X_BYTES, // [X_SPANS] floats of a norm
    MATVEC_SHARED_BYTES = ROUND_UP(SPANS_AT + X_SPANS * 4, 16),
};
static_assert(DEPTH >= 1 && (RESIDENT || DEPTH >= 2), "RING_BYTES holds at least two pieces a warp");

// Of this warp.
DEVICE u32 first_unit(u32 block) {
    return (u32)((u64)UNITS * block / BLOCKS) + warp_index();
}
DEVICE u32 end_unit(u32 block) {
    return (u32)((u64)UNITS * (block + 1) / BLOCKS);
}

// Where a warp is in its sequence of pieces.
struct Piece {
    u32 unit;
    u32 stretch;
    u32 slot;
};
DEVICE void piece_advance(Piece *p) {
    if (++p->stretch == STRETCHES) {
        p->stretch = 0;
        p->unit += WARPS;
    }
    if (++p->slot == DEPTH) p->slot = 0;
}

struct Stream {
    u8 *slots; // of this warp
#if SM_ARCH >= 90
    BulkBarrier *barriers; // one a slot
#endif
    u32 end; // units
    Piece fetch;
};

// The piece's rows of one format.
template <class Run, class Rows> DEVICE void fetch_rows(Run, const Stream &s, const Rows &rows) {
    constexpr u32 row_bytes = (u32)layout_row_bytes(Run::format, SEGMENT_COLS);
    constexpr u32 stretch_bytes =
        SEGMENT_STRETCHES == 1 ? row_bytes : STRETCH_TILES * layout_tile_bytes(Run::format, TILE_BLOCKS);
    u32 from = s.fetch.stretch % SEGMENT_STRETCHES * stretch_bytes;
    u32 bytes = SEGMENT_STRETCHES == 1 ? row_bytes : MIN(stretch_bytes, row_bytes - from);
    u32 first_row = SEGMENTS == 1 ? 0 : s.fetch.stretch / SEGMENT_STRETCHES * ROWS; // else r stays a constant
    u8 *slot = s.slots + s.fetch.slot * SLOT_BYTES;
#if SM_ARCH >= 90
    if (lane_index() == 0) {
        BulkBarrier *barrier = s.barriers + s.fetch.slot;
        bulk_barrier_expect(barrier, (Run::end - Run::first) * bytes);
        for (u32 r = Run::first; r < Run::end; r++) {
            bulk_copy_once(slot + r * STRETCH_BYTES, rows.row(s.fetch.unit, first_row + r) + from, bytes,
                           barrier);
        }
    }
#else
    for (u32 r = Run::first; r < Run::end; r++) {
        const u8 *source = rows.row(s.fetch.unit, first_row + r) + from;
        for (u32 i = lane_index() * 16; i < bytes; i += WARP * 16) {
            copy_async_16(slot + r * STRETCH_BYTES + i, source + i);
        }
    }
#endif
}

// Sets off the next piece, if there is one.
template <class Rows> DEVICE void stream_fetch(Stream *s, const Rows &rows) {
    if (s->fetch.unit < s->end) {
        with_format(unit_format(rows, s->fetch.unit), [&](auto run) { fetch_rows(run, *s, rows); });
        piece_advance(&s->fetch);
    }
#if SM_ARCH < 90
    copy_async_commit(); // also an empty group: stream_wait counts them
#endif
}

// A warp's stream before its first piece.
DEVICE Stream stream_open(u32 block, u8 *shared) {
    Stream s;
    u32 warp = warp_index();
    s.slots = shared + warp * DEPTH * SLOT_BYTES;
    s.end = end_unit(block);
    s.fetch = {first_unit(block), 0, 0};
#if SM_ARCH >= 90
    s.barriers = (BulkBarrier *)(shared + RING_END) + warp * DEPTH;
    if (lane_index() == 0) {
        for (u32 i = 0; i < DEPTH; i++) {
            bulk_barrier_init(s.barriers + i, FORMAT_RUNS); // a fetch of each
        }
        bulk_barrier_init_fence();
    }
    warp_sync();
#endif
    return s;
}

// Sets off the warp's first pieces. Reads only weights: call it before stage_wait.
template <class Rows> DEVICE void stream_begin(Stream *s, const Rows &rows) {
#pragma unroll 1
    for (u32 i = 0; i < DEPTH; i++) {
        stream_fetch(s, rows);
    }
}

DEVICE void stream_wait(const Stream &s, u32 slot, u32 parity) {
#if SM_ARCH >= 90
    bulk_barrier_wait(s.barriers + slot, parity);
#else
    (void)s, (void)slot, (void)parity;
    copy_async_wait<DEPTH - 1>();
    warp_sync();
#endif
}

// Adds this lane's part of a piece to the sums of the rows of one format.
template <class Run>
DEVICE void add_products(Run, const u8 *slot, const u8 *shared_x, const BlockX &only, u32 stretch,
                         float sum[ROWS]) {
    constexpr u32 tile_bytes = layout_tile_bytes(Run::format, TILE_BLOCKS);
    u32 lane = lane_index(), segment = stretch / SEGMENT_STRETCHES;
#pragma unroll(REGISTERS >= 128 ? 4 : 2) // 4 do not fit the registers of 16 warps
    for (u32 t = 0; t < STRETCH_TILES; t++) {
        u32 tile = stretch % SEGMENT_STRETCHES * STRETCH_TILES + t;
        if (SEGMENT_STRETCHES > 1 && tile >= TILES) break;
        u32 n = TAIL_BLOCKS == 0 || tile + 1 < TILES ? (u32)TILE_BLOCKS : (u32)TAIL_BLOCKS;
        if constexpr (FORMAT_IS_FLOAT(Run::format)) {
            for (u32 e = lane * 4; e < n * BLOCK_WEIGHTS; e += WARP * 4) {
                float4 x = x_load_floats(shared_x, segment * SEGMENT_COLS + tile * TILE_WEIGHTS + e);
#pragma unroll
                for (u32 r = Run::first; r < Run::end; r++) {
                    float4 w = float_weights_4<Run::format>(slot + r * STRETCH_BYTES + t * tile_bytes, e);
                    sum[r] =
                        fma_f32(w.x, x.x, fma_f32(w.y, x.y, fma_f32(w.z, x.z, fma_f32(w.w, x.w, sum[r]))));
                }
            }
        } else if (lane < n) {
            u32 at = segment * SEGMENT_BLOCKS + tile * TILE_BLOCKS + lane;
            BlockX x = TILES * SEGMENTS == 1 ? only : x_load<!UNPACKED>(shared_x, at);
#pragma unroll
            for (u32 r = Run::first; r < Run::end; r++) {
                sum[r] = Block<Run::format>::add_dot(sum[r], slot + r * STRETCH_BYTES + t * tile_bytes, n,
                                                     lane, x);
            }
        }
    }
}

// Sums over the warp, lanes 16 apart first, of `batch` units (a power of two) with ROWS rows each. The totals
// of unit i end in the lanes [32 i / batch, 32 (i + 1) / batch) of sum[0 … ROWS - 1]: half the lanes go on
// with half the units after each exchange. Rows stay side by side: more shuffles than if they were spread
// too, but one step less.
template <u32 batch> DEVICE void warp_sums(float sum[batch * ROWS]) {
#pragma unroll
    for (u32 step = 0; step < 5; step++) {
        const u32 distance = 16u >> step, kept = (batch >> step) / 2 * ROWS;
        bool upper = lane_index() & distance;
        if (kept > 0) {
#pragma unroll
            for (u32 i = 0; i < kept; i++) {
                float keep = upper ? sum[i + kept] : sum[i], give = upper ? sum[i] : sum[i + kept];
                sum[i] = keep + shuffle_xor(give, distance);
            }
        } else {
#pragma unroll
            for (u32 r = 0; r < ROWS; r++) {
                sum[r] += shuffle_xor(sum[r], distance);
            }
        }
    }
}

// The sums of the units that are done, one unit a lane, until they are finished together.
struct DoneUnits {
    u32 filled; // lanes
    u32 unit;   // this lane's, UINT32_MAX for none
    float sums[ROWS];
};

// Lane filled + i takes over unit first + i WARPS of a batch; finishes when all lanes have one.
template <class Finish>
DEVICE void take_batch(DoneUnits *done, u32 first, u32 end, float sum[BATCH * ROWS], const Finish &finish) {
    warp_sums<BATCH>(sum);
    u32 i = lane_index() - done->filled, unit = first + i * WARPS;
    bool takes = i < BATCH && unit < end;
#pragma unroll
    for (u32 r = 0; r < ROWS; r++) {
        float v = BATCH == 1 ? sum[r] : shuffle(sum[r], i * (WARP / BATCH));
        if (takes) done->sums[r] = v;
    }
    if (takes) done->unit = unit;
    done->filled += BATCH;
    if (done->filled < WARP) return;
    finish(done->unit, done->sums);
    done->unit = ~0u;
    done->filled = 0;
}

// One piece's part of its unit's sums.
template <class Rows>
DEVICE void run_piece(Stream *s, const Piece &piece, u32 parity, const u8 *shared_x, const BlockX &only,
                      const Rows &rows, float sum[ROWS]) {
    if (!RESIDENT || SM_ARCH < 90) stream_wait(*s, piece.slot, parity);
    const u8 *slot = s->slots + piece.slot * SLOT_BYTES;
    with_format(unit_format(rows, piece.unit),
                [&](auto run) { add_products(run, slot, shared_x, only, piece.stretch, sum); });
    if (!RESIDENT) warp_sync(); // every lane has read the slot
    if (!RESIDENT || SM_ARCH < 90) stream_fetch(s, rows);
}

// All of the warp's units, after the activations are in shared memory (and a block_sync).
template <class Rows, class Finish>
DEVICE void stream_run(Stream *s, u32 block, const u8 *shared_x, const Rows &rows, const Finish &finish) {
    DoneUnits done = {0, ~0u, {}};
    u32 parity = 0;
    Piece piece = {first_unit(block), 0, 0};
    BlockX only = {};
    if (TILES * SEGMENTS == 1 && X_INTEGERS && lane_index() < X_BLOCKS)
        only = x_load<!UNPACKED>(shared_x, lane_index());

#pragma unroll 1
    while (piece.unit < s->end) {
        float sum[BATCH * ROWS] = {};
        u32 first = piece.unit;
#pragma unroll
        for (u32 unit = 0; unit < BATCH; unit++) {
            if (piece.unit >= s->end) break;
#pragma unroll 1
            for (u32 stretch = 0; stretch < STRETCHES; stretch++) {
                run_piece(s, piece, parity, shared_x, only, rows, sum + unit * ROWS);
                piece_advance(&piece);
                if (piece.slot == 0) parity ^= 1;
            }
        }
        take_batch(&done, first, s->end, sum, finish);
    }
    if (done.filled > 0) finish(done.unit, done.sums);
}

// ---- weights that wait in registers ----

struct UnpackedWeights {
    UnpackedBlock block[UNPACKED_UNITS][ROWS][UNPACKED_TILES];
};

template <class Run>
DEVICE void unpack_unit(Run, const u8 *slot, UnpackedBlock blocks[ROWS][UNPACKED_TILES]) {
    if constexpr (UNPACKED) {
#pragma unroll
        for (u32 r = Run::first; r < Run::end; r++) {
#pragma unroll
            for (u32 t = 0; t < UNPACKED_TILES; t++) {
                u32 n = TAIL_BLOCKS == 0 || t + 1 < TILES ? (u32)TILE_BLOCKS : (u32)TAIL_BLOCKS;
                const u8 *tile = slot + r * STRETCH_BYTES + t * layout_tile_bytes(Run::format, TILE_BLOCKS);
                if (lane_index() < n) Block<Run::format>::unpack(tile, n, lane_index(), &blocks[r][t]);
            }
        }
    }
}

// Waits for the weights of a resident stream and unpacks them where they fit: before stage_wait.
template <class Rows> DEVICE void stream_settle(Stream *s, u32 block, const Rows &rows, UnpackedWeights *w) {
    if (!RESIDENT) return;
    u32 unit = first_unit(block);
#if SM_ARCH >= 90
#pragma unroll 1
    for (u32 i = 0; i < DEPTH && unit + i / STRETCHES * WARPS < s->end; i++) {
        bulk_barrier_wait(s->barriers + i, 0);
    }
#else
    if (!UNPACKED) return;
    copy_async_wait<0>();
    warp_sync();
#endif
    if (!UNPACKED) return;
    *w = {};
#pragma unroll
    for (u32 i = 0; i < UNPACKED_UNITS; i++) {
        if (unit + i * WARPS >= s->end) break;
        const u8 *slot = s->slots + i * SLOT_BYTES;
        with_format(unit_format(rows, unit + i * WARPS),
                    [&](auto run) { unpack_unit(run, slot, w->block[i]); });
    }
}

template <class Finish>
DEVICE void unpacked_run(const Stream &s, u32 block, const u8 *shared_x, const UnpackedWeights &w,
                         const Finish &finish) {
    DoneUnits done = {0, ~0u, {}};
#pragma unroll
    for (u32 first = 0; first < UNPACKED_UNITS; first += BATCH) {
        float sum[BATCH * ROWS] = {};
#pragma unroll
        for (u32 t = 0; t < UNPACKED_TILES; t++) {
            u32 at = t * TILE_BLOCKS + lane_index();
            BlockX x = {};
            if (at < X_BLOCKS) x = x_load<false>(shared_x, at);
#pragma unroll
            for (u32 i = 0; i < BATCH && first + i < UNPACKED_UNITS; i++) {
#pragma unroll
                for (u32 r = 0; r < ROWS; r++) {
                    float *to = &sum[i * ROWS + r];
                    *to = add_unpacked(*to, w.block[first + i][r][t], x);
                }
            }
        }
        take_batch(&done, first_unit(block) + first * WARPS, s.end, sum, finish);
    }
    if (done.filled > 0) finish(done.unit, done.sums);
}

// ---- what a stage calls ----

// Everything about the weights that is known before the input.
template <class Rows> struct Matvec {
    Rows rows;
    Stream stream;
    UnpackedWeights weights;

    DEVICE void start(u32 block, u8 *shared, const Rows &r) {
        open(block, shared);
        begin(r);
    }
    // The same in two steps, where it takes a while to know the rows.
    DEVICE void open(u32 block, u8 *shared) {
        stream = stream_open(block, shared);
    }
    DEVICE void begin(const Rows &r) {
        rows = r;
        stream_begin(&stream, rows);
    }
    // Last before stage_wait.
    DEVICE void settle(u32 block) {
        stream_settle(&stream, block, rows, &weights);
    }
    template <class Finish> DEVICE void run(u32 block, const u8 *shared, const Finish &finish) {
        if (UNPACKED) unpacked_run(stream, block, shared + X_AT, weights, finish);
        else stream_run(&stream, block, shared + X_AT, rows, finish);
    }
};

// The unit that lane i of a warp finishes, where a warp has no more units than lanes; UINT32_MAX for none.
DEVICE u32 my_unit(u32 block) {
    u32 unit = first_unit(block) + lane_index() * WARPS;
    return unit < end_unit(block) ? unit : ~0u;
}
