// States of heads: a matrix S of [VALUE_DIM][KEY_DIM] for each head of a text, which each row changes and
// reads. With the row's {d, u} of `factors`:
//
//     STATE_DELTA  the gated delta rule (Yang et al. 2024): S = d S;  S += (u (v - S k)) k^T;  y = S q
//     STATE_SSM    Mamba-2 (Dao, Gu 2024): S = d S;  S += (u x) b^T;  y = S c + D x
// with q, k, v (c, b, x) of `mixed` as state_conv.cuh left them. y takes the place of v (of x).
//
// Order of a row's sums: four lanes have a value column, lane j its keys 16 i + 4 j + c. Chain c adds those
// of c, i ascending; then (0 + 1) + (2 + 3), then lanes j ^ 1 and j ^ 2: the same in a prompt and alone. S k
// is of the state before its decay: v - d (S k) is rounded once.
//
// The rows of a run go one after the other. A block has COLS value columns of a head of one run, and their
// part of the slot's state in registers from the first row to the last: it is read and written once. Nobody
// else reads or writes that part, so it is changed in place. An earlier step wrote it, so it is read before
// stage_wait. Rows' q, k, v come through shared memory, TILE rows at a time, the next ones meanwhile.
//
// A row waits for the row before it, so its chain is kept short: both products of a state, S q of its own row
// and S k of the next one, are summed and exchanged together, and the state is multiplied by its decay while
// the lanes' exchange is under way. One block a multiprocessor is enough for a prompt, and two would take
// longer: state_conv.cuh says how they are spread.
//
// Operations: DELTA, SSM. Grid: runs x heads x parts of their value columns; blocks of prompts take several
// in turn. Defines: MAX_ROWS, CONV_COLS, STATE_HEADS, KEY_HEADS, KEY_DIM (a multiple of 16), VALUE_DIM (a
// multiple of 8), STATE_DELTA or STATE_SSM; HEADS_TILED (head h is of key head h % KEY_HEADS, else of
// h / (STATE_HEADS / KEY_HEADS)); LONG_RUNS (of prompts; else runs are mostly of one row).
#if !defined(MAX_ROWS) || !defined(CONV_COLS) || !defined(STATE_HEADS) || !defined(KEY_HEADS) || \
    !defined(KEY_DIM) || !defined(VALUE_DIM) || KEY_DIM % 16 || VALUE_DIM % 8 || CONV_COLS % 4
#error "MAX_ROWS, CONV_COLS, STATE_HEADS, KEY_HEADS, KEY_DIM, VALUE_DIM"
#endif
#if defined(STATE_DELTA) + defined(STATE_SSM) != 1
#error "STATE_DELTA or STATE_SSM"
#endif

enum : u32 {
    LANES = 4, // of a column
    COLS = VALUE_DIM % 32 == 0   ? 32
           : VALUE_DIM % 16 == 0 ? 16
                                 : 8,
    HEADS_THREADS = COLS * LANES,
    HEADS_WARPS = HEADS_THREADS / WARP,
    KEY_STEPS = KEY_DIM / 16,
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

// Which column of the block a thread has, and which of its four lanes it is. Neighbours have the same keys,
// so that 16 lanes' loads of 16 bytes are one turn of shared memory's banks, not two.
DEVICE u32 own_column() {
    return thread_index() / 8 * 2 + thread_index() % 2;
}
DEVICE u32 own_lane() {
    return thread_index() / 2 % LANES;
}

// What a block works on: a part of a head, of one run.
struct HeadUnit {
    RowRun run;
    u32 head, key_head, first_col;
    float *state; // of this thread's column: its keys 4 lane …
    bool goes_on; // the slot's text has rows before the run
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
    u64 column = u.head * VALUE_DIM + u.first_col + own_column();
    u.state = a.states + row->slot * a.slot_floats + column * KEY_DIM + own_lane() * 4;
    u.goes_on = row->position > 0;
    return u;
}

// A thread's keys of a row, or its part of the state.
struct LaneKeys {
    float4 of[KEY_STEPS];
};
DEVICE LaneKeys state_load(const HeadUnit &u) {
    LaneKeys s;
#pragma unroll
    for (u32 i = 0; i < KEY_STEPS; i++) {
        s.of[i] = float4{0, 0, 0, 0};
        if (u.goes_on) s.of[i] = load_shared_data((const float4 *)(u.state + i * 16));
    }
    return s;
}
DEVICE void state_store(const HeadUnit &u, const LaneKeys &s) {
#pragma unroll
    for (u32 i = 0; i < KEY_STEPS; i++) {
        *(float4 *)(u.state + i * 16) = s.of[i];
    }
}
// from: the vector in shared memory.
DEVICE LaneKeys load_keys(const float *from) {
    LaneKeys v;
#pragma unroll
    for (u32 i = 0; i < KEY_STEPS; i++) {
        v.of[i] = *(const float4 *)(from + own_lane() * 4 + i * 16);
    }
    return v;
}

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
// Begins to bring rows [first, first + TILE) of a run of n_rows into shared memory; one group of copies.
DEVICE void fetch_rows(const RowCopies &c, u32 first, u32 n_rows, float *to) {
    u32 end = MIN(first + TILE, n_rows);
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

DEVICE float4 scaled(float4 v, float by) {
    return {v.x * by, v.y * by, v.z * by, v.w * by};
}
DEVICE float4 added(float4 v, float4 w, float4 sum) {
    return {fma_f32(v.x, w.x, sum.x), fma_f32(v.y, w.y, sum.y), fma_f32(v.z, w.z, sum.z),
            fma_f32(v.w, w.w, sum.w)};
}
// Of the column, in all of its lanes.
DEVICE float lanes_sum(float4 sum) {
    float total = (sum.x + sum.y) + (sum.z + sum.w);
    total += shuffle_xor(total, 2);
    return total + shuffle_xor(total, 4);
}

// What a thread keeps from row to row.
struct HeadRows {
    LaneKeys state;
    LaneKeys query; // with `value` and `y`: of the row that the state has last
    LaneKeys key;   // of the next row
    float value;
    float *y;   // where that row's output goes, of this column
    float skip; // STATE_SSM: D
};
DEVICE void store_y(const HeadRows &h, float y) {
#ifdef STATE_SSM
    y = fma_f32(h.skip, h.value, y);
#endif
    if (own_lane() == 0) *h.y = y;
}

// A row: what the row before it gives, if there is one, then the state with this row. next: the row behind it
// whose keys are loaded; any row, behind the last one. (Keys are loaded while the lanes' exchange is under
// way; later, and the next row's products would wait for them.)
DEVICE void state_row(HeadRows *h, const float *row, const float *next, bool any_before) {
    float decay = row[OF_FACTORS], counts = row[OF_FACTORS + 1], value = row[OF_VALUE + own_column()];
    float4 of_key = {0, 0, 0, 0}, of_query = {0, 0, 0, 0};
#pragma unroll
    for (u32 i = 0; i < KEY_STEPS; i++) {
        float4 s = h->state.of[i];
#ifdef STATE_DELTA
        of_key = added(s, h->key.of[i], of_key);
#endif
        of_query = added(s, h->query.of[i], of_query);
        h->state.of[i] = scaled(s, decay);
    }
    LaneKeys key = h->key;
    h->key = load_keys(next + OF_KEY);
    h->query = load_keys(row);
#ifdef STATE_DELTA
    float by = counts * fma_f32(-decay, lanes_sum(of_key), value);
#else
    float by = counts * value;
#endif
    float y = lanes_sum(of_query);
#pragma unroll
    for (u32 i = 0; i < KEY_STEPS; i++) {
        h->state.of[i] = added(key.of[i], float4{by, by, by, by}, h->state.of[i]);
    }
    if (any_before) store_y(*h, y);
    h->value = value;
    h->y += CONV_COLS;
}

// All rows of the unit's run; tiles [2][TILE_FLOATS].
DEVICE void run_unit(const StateHeadsArgs &a, const HeadUnit &u, const LaneKeys &state, float *tiles) {
    u32 n_rows = u.run.n_rows;
    RowCopies copies = row_copies(a, u);
    fetch_rows(copies, 0, n_rows, tiles);
    HeadRows h = {state, {}, {}, 0, a.mixed + VALUE_AT + u.head * VALUE_DIM + u.first_col + own_column(), 0};
    h.y += ((i64)u.run.row - 1) * CONV_COLS; // before the first row: nothing is stored there
#ifdef STATE_SSM
    h.skip = a.skip[u.head];
#endif
    for (u32 first = 0, turn = 0; first < n_rows; first += TILE, turn ^= 1) {
        const float *row = tiles + turn * TILE_FLOATS;
        copy_async_wait<0>();
        block_sync(); // the tile is there, and nobody reads the one before it any more
        fetch_rows(copies, first + TILE, n_rows, tiles + (turn ^ 1) * TILE_FLOATS);
        u32 n = MIN(n_rows - first, (u32)TILE);
        h.key = load_keys(row + OF_KEY);
#pragma unroll 2
        for (u32 r = 0; r < n; r++) {
            const float *next = r + 1 < n ? row + ROW_FLOATS : row;
            state_row(&h, row, next, first + r > 0);
            row = next;
        }
    }
    float4 of_query = {0, 0, 0, 0};
#pragma unroll
    for (u32 i = 0; i < KEY_STEPS; i++) {
        of_query = added(h.state.of[i], h.query.of[i], of_query);
    }
    store_y(h, lanes_sum(of_query));
    state_store(u, h.state);
    block_sync(); // the last tile has been read
}

EXPORTED StageInfo state_heads_info = {HEADS_THREADS, {HEADS_BLOCKS, 1}, 2 * TILE_FLOATS * 4};

KERNEL(HEADS_THREADS, HEADS_PER_SM) state_heads(StateHeadsArgs a) {
    stage_launch_next();
    // Known before the step began.
    u32 n = a.batch->n_runs * RUN_UNITS, number = block_index();
    if (number >= n) return;
    HeadUnit u = head_unit(a, number);
    LaneKeys s = state_load(u);
    stage_wait();
    for (;;) {
        run_unit(a, u, s, (float *)shared_memory());
        number += HEADS_BLOCKS;
        if (number >= n) break;
        u = head_unit(a, number);
        s = state_load(u);
    }
}
