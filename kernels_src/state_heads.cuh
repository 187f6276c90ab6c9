// States of heads: a matrix S of [VALUE_DIM][KEY_DIM] for each head of a text, which each row changes and
// reads. With the row's {d, u} of `factors`:
//
//     STATE_DELTA  the gated delta rule (Yang et al. 2024): S = d S;  S += (u (v - S k)) k^T;  y = S q
//     STATE_SSM    Mamba-2 (Dao, Gu 2024): S = d S;  S += (u x) b^T;  y = S c + D x
// with q, k, v (c, b, x) of `mixed` as state_conv.cuh left them. y takes the place of v (of x).
//
// Order of a row's sums: LANES lanes have a value column, lane j its keys 4 LANES i + 4 j + c. Chain c adds
// those of c, i ascending; then (0 + 1) + (2 + 3), then lanes j ^ 1, j ^ 2, j ^ 4 …: the same in a prompt
// and alone. S k is of the state before its decay: v - d (S k) is rounded once.
//
// The rows of a run go one after the other. A block has COLS value columns of a head of one run, and their
// part of the slot's state in registers from the first row to the last: it is read and written once. Nobody
// else reads or writes that part, so it is changed in place. An earlier step wrote it, so it is read before
// stage_wait. Rows' q, k, v come through shared memory, TILE rows at a time, the next ones meanwhile.
//
// Tiles end where the position is a multiple of TILE. So a page's last row is a tile's, and in a prompt it
// may say where the state behind it is kept besides (BatchRow.keep): at a checkpoint's place, which nobody
// reads in this step.
//
// In a prompt a row waits for the row before it, so that latencies count. S q of a row and S k of the next
// one are taken together; the state is multiplied by its decay while lanes exchange their sums. A thread has
// two columns, which share the keys that it loads: shared memory gives a multiprocessor 32 values a clock.
// (H200, 128 keys and 32 heads, us a row: a warp a scheduler, one column a thread 0.36, two 0.30; before all
// this 0.57.) state_conv.cuh says how blocks are spread over the multiprocessors.
//
// Operations: DELTA, SSM. Grid: runs x heads x parts of their value columns; blocks of prompts take several
// in turn. Defines: MAX_ROWS, CONV_COLS, STATE_HEADS, KEY_HEADS, KEY_DIM (a multiple of 16), VALUE_DIM (a
// multiple of 8), STATE_DELTA or STATE_SSM; HEADS_TILED (head h is of key head h % KEY_HEADS, else of
// h / (STATE_HEADS / KEY_HEADS)); LONG_RUNS (of prompts; else runs are mostly of one row); HEAD_COLS, the
// columns of a block (32, or what VALUE_DIM allows). state_few.cuh has what is above its blocks.
#if !defined(MAX_ROWS) || !defined(CONV_COLS) || !defined(STATE_HEADS) || !defined(KEY_HEADS) || \
    !defined(KEY_DIM) || !defined(VALUE_DIM) || KEY_DIM % 16 || VALUE_DIM % 8 || CONV_COLS % 4
#error "MAX_ROWS, CONV_COLS, STATE_HEADS, KEY_HEADS, KEY_DIM, VALUE_DIM"
#endif
#if defined(STATE_DELTA) + defined(STATE_SSM) != 1
#error "STATE_DELTA or STATE_SSM"
#endif

enum : u32 {
    LANES = KEY_DIM % 64 == 0   ? 16 // of a column
            : KEY_DIM % 32 == 0 ? 8
                                : 4,
    OWN_COLS = LANES > 4 ? 2 : 1, // of a thread
#ifdef HEAD_COLS
    COLS = HEAD_COLS,
#else
    COLS = VALUE_DIM % 32 == 0   ? 32
           : VALUE_DIM % 16 == 0 ? 16
                                 : 8,
#endif
    HEADS_THREADS = COLS / OWN_COLS * LANES,
    HEADS_WARPS = HEADS_THREADS / WARP,
    KEY_STEPS = KEY_DIM / (4 * LANES),
    HEAD_PARTS = VALUE_DIM / COLS,
    RUN_UNITS = STATE_HEADS * HEAD_PARTS,
#ifdef LONG_RUNS
    TILE = KEY_DIM > 128 ? 8 : 16, // rows
    HEADS_BLOCKS = MIN(MAX_ROWS * RUN_UNITS, ROW_BLOCKS_MAX),
    HEADS_PER_SM = KEY_DIM > 128 ? 2 : 3, // blocks, for the registers' sake
#else
    TILE = 1,
    HEADS_BLOCKS = MAX_ROWS * RUN_UNITS,
    HEADS_PER_SM = KEY_DIM > 128 ? 2 : 4,
#endif
// Where a row of `mixed` has them.
#ifdef STATE_DELTA
    QUERY_AT = 0,
    KEY_AT = KEY_HEADS * KEY_DIM,
    VALUE_AT = 2 * KEY_HEADS * KEY_DIM,
#else
    VALUE_AT = 0,
    KEY_AT = STATE_HEADS * VALUE_DIM,
    QUERY_AT = KEY_AT + KEY_HEADS * KEY_DIM,
#endif
    // Of a row in shared memory, in floats: q, k, v, {d, u, 0, 0}.
    OF_KEY = KEY_DIM,
    OF_VALUE = 2 * KEY_DIM,
    OF_FACTORS = OF_VALUE + COLS,
    ROW_FLOATS = OF_FACTORS + 4,
    ROW_COPIES = CEIL_DIV(ROW_FLOATS / 4, WARP), // a lane
    TILE_FLOATS = TILE * ROW_FLOATS,
};

// The first of the block's columns that a thread has, and which of their lanes it is. Neighbours have the
// same keys, so that 16 lanes' loads of 16 bytes are one turn of shared memory's banks, not two.
DEVICE u32 own_column() {
    return (thread_index() / (2 * LANES) * 2 + thread_index() % 2) * OWN_COLS;
}
DEVICE u32 own_lane() {
    return thread_index() / 2 % LANES;
}

// What a block works on: a part of a head, of one run.
struct HeadUnit {
    RowRun run;
    u32 head, key_head, first_col;
    u32 slot, position; // of the run's first row
};
DEVICE HeadUnit head_unit(const StateHeadsArgs &a, u32 number) {
    HeadUnit u;
    u.run = a.runs[number / RUN_UNITS];
    u.head = number % RUN_UNITS / HEAD_PARTS;
    u.first_col = number % HEAD_PARTS * COLS;
#ifdef HEADS_TILED
    u.key_head = u.head % KEY_HEADS;
#else
    u.key_head = u.head / (STATE_HEADS / KEY_HEADS);
#endif
    const BatchRow *row = a.rows + u.run.row;
    u.slot = row->slot;
    u.position = row->position;
    return u;
}

// A thread's keys of a row.
struct LaneKeys {
    float4 of[KEY_STEPS];
};
// From the vector in shared memory.
DEVICE LaneKeys load_keys(const float *from) {
    LaneKeys v;
#pragma unroll
    for (u32 i = 0; i < KEY_STEPS; i++) {
        v.of[i] = *(const float4 *)(from + (i * LANES + own_lane()) * 4);
    }
    return v;
}

// A thread's part of the state.
struct StatePart {
    LaneKeys col[OWN_COLS];
};
// Where a slot has this thread's first column: its keys 4 lane ….
DEVICE float *state_at(const StateHeadsArgs &a, const HeadUnit &u, u32 slot) {
    u64 column = u.head * VALUE_DIM + u.first_col + own_column();
    return a.states + slot * a.slot_floats + column * KEY_DIM + own_lane() * 4;
}
DEVICE StatePart state_load(const StateHeadsArgs &a, const HeadUnit &u) {
    StatePart s;
    const float *from = state_at(a, u, u.slot);
#pragma unroll
    for (u32 i = 0; i < OWN_COLS * KEY_STEPS; i++) {
        float4 v = {0, 0, 0, 0};
        if (u.position > 0)
            v = load_shared_data(
                (const float4 *)(from + i / KEY_STEPS * KEY_DIM + i % KEY_STEPS * LANES * 4));
        s.col[i / KEY_STEPS].of[i % KEY_STEPS] = v;
    }
    return s;
}
DEVICE void state_store(const StateHeadsArgs &a, const HeadUnit &u, u32 slot, const StatePart &s) {
    float *to = state_at(a, u, slot);
#pragma unroll
    for (u32 i = 0; i < OWN_COLS * KEY_STEPS; i++) {
        *(float4 *)(to + i / KEY_STEPS * KEY_DIM + i % KEY_STEPS * LANES * 4) =
            s.col[i / KEY_STEPS].of[i % KEY_STEPS];
    }
}

#ifndef STAGE_STATE_FEW
// What a lane copies of each row: units of 16 bytes.
struct RowCopies {
    const float *from[ROW_COPIES]; // of the run's first row
    u32 stride[ROW_COPIES];        // floats from a row to the next
};
DEVICE RowCopies row_copies(const StateHeadsArgs &a, const HeadUnit &u) {
    RowCopies c;
    const float *mixed = a.mixed + (u64)u.run.row * CONV_COLS;
#pragma unroll
    for (u32 i = 0; i < ROW_COPIES; i++) {
        u32 at = (i * WARP + lane_index()) * 4;
        c.stride[i] = CONV_COLS;
        if (at < OF_KEY) c.from[i] = mixed + QUERY_AT + u.key_head * KEY_DIM + at;
        else if (at < OF_VALUE) c.from[i] = mixed + KEY_AT + u.key_head * KEY_DIM + (at - OF_KEY);
        else if (at < OF_FACTORS)
            c.from[i] = mixed + VALUE_AT + u.head * VALUE_DIM + u.first_col + (at - OF_VALUE);
        else {
            c.from[i] = a.factors + ((u64)u.run.row * STATE_HEADS + u.head) * 4;
            c.stride[i] = STATE_HEADS * 4;
        }
    }
    return c;
}
// Begins to bring rows [first, end) of a run into shared memory; one group of copies.
DEVICE void fetch_rows(const RowCopies &c, u32 first, u32 end, float *to) {
    for (u32 row = first + warp_index(); row < end; row += HEADS_WARPS) {
#pragma unroll
        for (u32 i = 0; i < ROW_COPIES; i++) {
            u32 at = (i * WARP + lane_index()) * 4;
            if (at < ROW_FLOATS)
                copy_async_16(to + (row - first) * ROW_FLOATS + at, c.from[i] + (u64)row * c.stride[i]);
        }
    }
    copy_async_commit();
}
#endif

DEVICE float4 added(float4 v, float4 w, float4 sum) {
    return {fma_f32(v.x, w.x, sum.x), fma_f32(v.y, w.y, sum.y), fma_f32(v.z, w.z, sum.z),
            fma_f32(v.w, w.w, sum.w)};
}
// This lane's part of a column's product with w.
DEVICE float own_product(const LaneKeys &column, const LaneKeys &w) {
    float4 sum = {0, 0, 0, 0};
#pragma unroll
    for (u32 i = 0; i < KEY_STEPS; i++) {
        sum = added(column.of[i], w.of[i], sum);
    }
    return (sum.x + sum.y) + (sum.z + sum.w);
}
// Sums of lanes from `first` apart on: 2, 4 (, 8) are all of a column's.
DEVICE float lanes_sum(float v, u32 first) {
#pragma unroll
    for (u32 m = first; m < 2 * LANES; m *= 2) {
        v += shuffle_xor(v, m);
    }
    return v;
}

// A thread's columns and the row that they have last.
struct HeadRows {
    StatePart state;
    LaneKeys query;
    float value[OWN_COLS];
    float *y;   // where that row's outputs go, from the thread's first column on
    float skip; // STATE_SSM: D
};

// What the row gives, of one column: lane c has column c. (S q of two columns: each lane sends the one that
// it does not keep.)
DEVICE float row_output(const HeadRows &h) {
    u32 mine = own_lane() % OWN_COLS;
    float sum = own_product(h.state.col[0], h.query), value = h.value[0];
    if (OWN_COLS == 2) {
        float second = own_product(h.state.col[OWN_COLS - 1], h.query);
        float sent = mine ? sum : second;
        sum = (mine ? second : sum) + shuffle_xor(sent, 2);
        if (mine) value = h.value[OWN_COLS - 1];
    }
    float y = lanes_sum(sum, 2 * OWN_COLS);
#ifdef STATE_SSM
    y = fma_f32(h.skip, value, y);
#endif
    (void)value;
    return y;
}
#ifndef STAGE_STATE_FEW
DEVICE void row_store(float *y, float v) {
    if (own_lane() < OWN_COLS) y[own_lane()] = v;
}
#endif

// Takes a row into the state. key: the row's; row: in shared memory.
DEVICE void row_into_state(HeadRows *h, const LaneKeys &key, const float *row) {
    float decay = row[OF_FACTORS], counts = row[OF_FACTORS + 1], by[OWN_COLS];
#pragma unroll
    for (u32 c = 0; c < OWN_COLS; c++) {
        h->value[c] = row[OF_VALUE + own_column() + c];
        by[c] = h->value[c];
#ifdef STATE_DELTA
        by[c] = fma_f32(-decay, lanes_sum(own_product(h->state.col[c], key), 2), by[c]);
#endif
        by[c] *= counts;
    }
#pragma unroll
    for (u32 i = 0; i < OWN_COLS * KEY_STEPS; i++) {
        float4 *s = &h->state.col[i / KEY_STEPS].of[i % KEY_STEPS];
        float b = by[i / KEY_STEPS];
        *s = added(key.of[i % KEY_STEPS], float4{b, b, b, b},
                   float4{s->x * decay, s->y * decay, s->z * decay, s->w * decay});
    }
    h->y += CONV_COLS;
}

#ifndef STAGE_STATE_FEW
// The n rows of a tile. key: of the first one.
DEVICE void tile_rows(HeadRows *h, const float *row, u32 n, bool any_before) {
    LaneKeys key = load_keys(row + OF_KEY);
#ifdef LONG_RUNS
#pragma unroll 2
    for (u32 r = 0; r < n; r++) {
        const float *next = r + 1 < n ? row + ROW_FLOATS : row;
        LaneKeys next_key = load_keys(next + OF_KEY);
        float *y_before = h->y, y = row_output(*h);
        row_into_state(h, key, row);
        h->query = load_keys(row);
        if (any_before || r > 0) row_store(y_before, y);
        key = next_key, row = next;
    }
#else // one row, whose output nothing waits for
    (void)n, (void)any_before;
    row_into_state(h, key, row);
    h->query = load_keys(row);
    row_store(h->y, row_output(*h));
#endif
}
#endif

#ifndef STAGE_STATE_FEW
// All rows of the unit's run; tiles [2][TILE_FLOATS].
DEVICE void run_unit(const StateHeadsArgs &a, const HeadUnit &u, const StatePart &state, float *tiles) {
    u32 n_rows = u.run.n_rows, end = MIN(TILE - u.position % TILE, n_rows);
    RowCopies copies = row_copies(a, u);
    fetch_rows(copies, 0, end, tiles);
    HeadRows h = {state, {}, {}, a.mixed + VALUE_AT + u.head * VALUE_DIM + u.first_col + own_column(), 0};
    h.y += ((i64)u.run.row - 1) * CONV_COLS; // before the first row: nothing is stored there
#ifdef STATE_SSM
    h.skip = a.skip[u.head];
#endif
    for (u32 first = 0, turn = 0; first < n_rows; turn ^= 1) {
        u32 next_end = MIN(end + TILE, n_rows);
        copy_async_wait<0>();
        block_sync(); // the tile is there, and nobody reads the one before it any more
        fetch_rows(copies, end, next_end, tiles + (turn ^ 1) * TILE_FLOATS);
#ifdef LONG_RUNS
        u32 keep = a.rows[u.run.row + end - 1].keep;
#endif
        tile_rows(&h, tiles + turn * TILE_FLOATS, end - first, first > 0);
#ifdef LONG_RUNS
        if (keep) state_store(a, u, keep, h.state);
#endif
        first = end, end = next_end;
    }
#ifdef LONG_RUNS
    row_store(h.y, row_output(h));
#endif
    state_store(a, u, u.slot, h.state);
    block_sync(); // the last tile has been read
}

EXPORTED StageInfo state_heads_info = {HEADS_THREADS, {HEADS_BLOCKS, 1}, 2 * TILE_FLOATS * 4};

KERNEL(HEADS_THREADS, HEADS_PER_SM) state_heads(StateHeadsArgs a) {
#ifndef LONG_RUNS // as state_conv
    stage_launch_next();
#endif
    // Known before the step began.
    u32 n = a.batch->n_runs * RUN_UNITS, number = block_index();
    if (number >= n) return;
    HeadUnit u = head_unit(a, number);
    StatePart s = state_load(a, u);
    stage_wait();
    for (;;) {
        run_unit(a, u, s, (float *)shared_memory());
        number += HEADS_BLOCKS;
        if (number >= n) break;
        u = head_unit(a, number);
        s = state_load(a, u);
    }
}
#endif
