// States of heads: a matrix S of [VALUE_DIM][KEY_DIM] for each head of a text, which each row changes and
// reads. With the row's {d, u} of `factors`:
//
//     STATE_DELTA  the gated delta rule (Yang et al. 2024): S = d S;  S += (u (v - S k)) k^T;  y = S q
//     STATE_SSM    Mamba-2 (Dao, Gu 2024): S = d S;  S += (u x) b^T;  y = S c + D x
// with q, k, v (c, b, x) of `mixed` as state_conv.cuh left them. y takes the place of v (of x).
//
// Order of a row's sums: four lanes have a value column, lane j its keys 16 i + 4 j + c. Chain c adds those
// of c, i ascending; then (0 + 1) + (2 + 3), then the lanes 1 and 2 apart: the same in a prompt and alone.
//
// The rows of a run go one after the other. A block has COLS value columns of a head of one run, and their
// part of the slot's state in registers from the first row to the last: it is read and written once. Nobody
// else reads or writes that part, so it is changed in place. An earlier step wrote it, so it is read before
// stage_wait. Rows' q, k, v come through shared memory, TILE rows at a time, the next ones meanwhile.
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
    KEY_STEPS = KEY_DIM / 16,
    HEAD_PARTS = VALUE_DIM / COLS,
    RUN_UNITS = STATE_HEADS * HEAD_PARTS,
#ifdef LONG_RUNS
    TILE = 8, // rows
    HEADS_BLOCKS = MIN(MAX_ROWS * RUN_UNITS, ROW_BLOCKS_MAX),
    HEADS_PER_SM = KEY_DIM > 128 ? 2 : 4, // blocks
#else
    TILE = 1,
    HEADS_BLOCKS = MAX_ROWS * RUN_UNITS,
    HEADS_PER_SM = KEY_DIM > 128 ? 2 : 5,
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
    TILE_FLOATS = TILE * ROW_FLOATS,
};

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
    u64 column = u.head * VALUE_DIM + u.first_col + thread_index() / LANES;
    u.state = a.states + row->slot * a.slot_floats + column * KEY_DIM + thread_index() % LANES * 4;
    u.goes_on = row->position > 0;
    return u;
}

// A thread's part of the state: of its column.
struct StatePart {
    float4 of[KEY_STEPS];
};
DEVICE StatePart state_load(const HeadUnit &u) {
    StatePart s;
#pragma unroll
    for (u32 i = 0; i < KEY_STEPS; i++) {
        s.of[i] = float4{0, 0, 0, 0};
        if (u.goes_on) s.of[i] = load_shared_data((const float4 *)(u.state + i * 16));
    }
    return s;
}
DEVICE void state_store(const HeadUnit &u, const StatePart &s) {
#pragma unroll
    for (u32 i = 0; i < KEY_STEPS; i++) {
        *(float4 *)(u.state + i * 16) = s.of[i];
    }
}

// Begins to bring rows [first, first + TILE) of the run into shared memory; one group of copies.
DEVICE void fetch_rows(const StateHeadsArgs &a, const HeadUnit &u, u32 first, float *to) {
    u32 n = MIN(u.run.n_rows - MIN(first, u.run.n_rows), (u32)TILE);
    for (u32 i = thread_index(); i < n * (ROW_FLOATS / 4); i += HEADS_THREADS) {
        u32 r = i / (ROW_FLOATS / 4), at = i % (ROW_FLOATS / 4) * 4, row = u.run.row + first + r;
        const float *mixed = a.mixed + (u64)row * CONV_COLS;
        const float *from = at < OF_KEY     ? mixed + QUERY_AT + u.key_head * KEY_DIM + at
                            : at < OF_VALUE ? mixed + KEY_AT + u.key_head * KEY_DIM + (at - OF_KEY)
                            : at < OF_FACTORS
                                ? mixed + VALUE_AT + u.head * VALUE_DIM + u.first_col + (at - OF_VALUE)
                                : a.factors + ((u64)row * STATE_HEADS + u.head) * 4;
        copy_async_16(to + r * ROW_FLOATS + at, from);
    }
    copy_async_commit();
}

DEVICE float4 scaled(float4 v, float by) {
    return {v.x * by, v.y * by, v.z * by, v.w * by};
}
DEVICE float4 added(float4 v, float4 w, float by) {
    return {fma_f32(w.x, by, v.x), fma_f32(w.y, by, v.y), fma_f32(w.z, by, v.z), fma_f32(w.w, by, v.w)};
}
// S w, of the column, in all of its lanes. w: from this lane's keys on.
DEVICE float state_dot(const StatePart &s, const float *w) {
    float4 sum = {0, 0, 0, 0};
#pragma unroll
    for (u32 i = 0; i < KEY_STEPS; i++) {
        float4 v = *(const float4 *)(w + i * 16);
        sum = {fma_f32(s.of[i].x, v.x, sum.x), fma_f32(s.of[i].y, v.y, sum.y), fma_f32(s.of[i].z, v.z, sum.z),
               fma_f32(s.of[i].w, v.w, sum.w)};
    }
    float total = (sum.x + sum.y) + (sum.z + sum.w);
    total += shuffle_xor(total, 1);
    return total + shuffle_xor(total, 2);
}

// One row: what the column gives.
DEVICE float state_row(StatePart *s, const float *row, float skip) {
    u32 keys = thread_index() % LANES * 4;
    float decay = row[OF_FACTORS], counts = row[OF_FACTORS + 1],
          value = row[OF_VALUE + thread_index() / LANES];
    const float *query = row + keys, *key = row + OF_KEY + keys;
#pragma unroll
    for (u32 i = 0; i < KEY_STEPS; i++) {
        s->of[i] = scaled(s->of[i], decay);
    }
#ifdef STATE_DELTA
    float by = counts * (value - state_dot(*s, key));
#else
    float by = counts * value;
#endif
#pragma unroll
    for (u32 i = 0; i < KEY_STEPS; i++) {
        s->of[i] = added(s->of[i], *(const float4 *)(key + i * 16), by);
    }
    float y = state_dot(*s, query);
#ifdef STATE_SSM
    y = fma_f32(skip, value, y);
#endif
    (void)skip;
    return y;
}

// All rows of the unit's run; tiles [2][TILE_FLOATS].
DEVICE void run_unit(const StateHeadsArgs &a, const HeadUnit &u, StatePart s, float *tiles) {
    float skip = 0;
#ifdef STATE_SSM
    skip = a.skip[u.head];
#endif
    float *y = a.mixed + VALUE_AT + u.head * VALUE_DIM + u.first_col + thread_index() / LANES;
    fetch_rows(a, u, 0, tiles);
    for (u32 first = 0, turn = 0; first < u.run.n_rows; first += TILE, turn ^= 1) {
        const float *tile = tiles + turn * TILE_FLOATS;
        fetch_rows(a, u, first + TILE, tiles + (turn ^ 1) * TILE_FLOATS);
        copy_async_wait<1>();
        block_sync();
        u32 n = MIN(u.run.n_rows - first, (u32)TILE);
        for (u32 r = 0; r < n; r++) {
            float v = state_row(&s, tile + r * ROW_FLOATS, skip);
            if (thread_index() % LANES == 0) y[(u64)(u.run.row + first + r) * CONV_COLS] = v;
        }
        block_sync(); // the tile has been read
    }
    state_store(u, s);
}

EXPORTED StageInfo state_heads_info = {HEADS_THREADS, {HEADS_BLOCKS, 1}, 2 * TILE_FLOATS * 4};

KERNEL(HEADS_THREADS, HEADS_PER_SM) state_heads(StateHeadsArgs a) {
    stage_launch_next();
    // Known before the step began.
    u32 n = a.batch->n_runs * RUN_UNITS, number = block_index();
    if (number >= n) return;
    HeadUnit u = head_unit(a, number);
    StatePart s = state_load(u);
    stage_wait();
    for (;;) {
        run_unit(a, u, s, (float *)shared_memory());
        number += HEADS_BLOCKS;
        if (number >= n) break;
        u = head_unit(a, number);
        s = state_load(u);
    }
}
