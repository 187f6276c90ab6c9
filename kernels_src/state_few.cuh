// What state_conv.cuh, state_heads.cuh and state_gate.cuh do, as one stage for few rows: nobody hands over
// what is convolved, nor what heads give. To the same bits: the formulas, and the orders of sums, are theirs.
//
// A cluster has the heads of one key head, of one run; a block has COLS value columns of a head. It convolves
// what it needs by itself: queries and keys that all blocks of the cluster have, too, and its own values. The
// first block keeps the inputs of queries and keys for the next row when all have read those before. What
// the norm is of goes to all blocks that have columns of the norm, each of which adds up all of its squares.
//
// What an earlier step left (the state, the inputs that are kept) is read before stage_wait.
//
// Operations: CONV, DELTA or SSM, RMS_NORM, GLU. Grid: runs x key heads x blocks of a cluster. Defines: those
// of the three but VALUE_AT and LONG_RUNS; HEAD_COLS (at most 64). A norm is of neighbouring blocks of a
// cluster, of 512 columns at most (GATE_WARPS is 1); both activations are the same.
enum : u32 {
    KEY_HEAD_HEADS = STATE_HEADS / KEY_HEADS,
    CLUSTER_BLOCKS = KEY_HEAD_HEADS * HEAD_PARTS,
    NORM_BLOCKS = NORM_COLS / COLS,
    CONV_UNITS = (2 * KEY_DIM + COLS) / 4, // four channels each, of a thread
    FEW_BLOCKS = MAX_ROWS * KEY_HEADS * CLUSTER_BLOCKS,
    // So that one fits beside the stages before and behind it. (512 threads, Qwen3.5-27B, one row, an H200:
    // one block a multiprocessor, 80 registers: 193.6 tokens/s; two, 64: 197.4.)
    FEW_PER_SM = MAX_ROWS == 1 || HEADS_THREADS > 256 ? 2 : 3, // blocks
    // In floats: the rows as state_heads.cuh has them, what the norms are of, the gates.
    VALUES_AT = MAX_ROWS * ROW_FLOATS,
    GATES_AT = VALUES_AT + MAX_ROWS * NORM_COLS,
    BARRIER_AT = GATES_AT + MAX_ROWS * COLS,
    FEW_FLOATS = BARRIER_AT + 2,
};
static_assert(SM_ARCH >= 90 && CLUSTER_BLOCKS <= 8, "a key head's blocks are a cluster");
static_assert(NORM_COLS % COLS == 0 && CLUSTER_BLOCKS % NORM_BLOCKS == 0 && GATE_WARPS == 1 && COLS <= 64,
              "a norm is of a cluster, and one warp takes it");
static_assert((u32)CONV_UNITS <= (u32)HEADS_THREADS && MAX_ROWS <= HEADS_THREADS, "a thread each");

DEVICE u32 few_rank() {
    return block_index() % CLUSTER_BLOCKS;
}
// The block's first column of its norm.
DEVICE u32 few_norm_col() {
    return few_rank() % NORM_BLOCKS * COLS;
}

DEVICE HeadUnit few_unit(const StateHeadsArgs &a) {
    u32 cluster = block_index() / CLUSTER_BLOCKS, of_key_head = few_rank() / HEAD_PARTS;
    HeadUnit u;
    u.run = a.runs[cluster / KEY_HEADS];
    u.key_head = cluster % KEY_HEADS;
#ifdef HEADS_TILED
    u.head = of_key_head * KEY_HEADS + u.key_head;
#else
    u.head = u.key_head * KEY_HEAD_HEADS + of_key_head;
#endif
    u.first_col = few_rank() % HEAD_PARTS * COLS;
    const BatchRow *row = a.rows + u.run.row;
    u.slot = row->slot;
    u.position = row->position;
    return u;
}

// ---- the convolution ----

// The first of a thread's four channels; none: CONV_COLS. A row has them at 4 * thread_index().
DEVICE u32 few_channel(const HeadUnit &u) {
    u32 at = thread_index() * 4;
    if (at < OF_KEY) return QUERY_AT + u.key_head * KEY_DIM + at;
    if (at < OF_VALUE) return KEY_AT + u.key_head * KEY_DIM + (at - OF_KEY);
    if (at < OF_FACTORS) return VALUE_AT + u.head * VALUE_DIM + u.first_col + (at - OF_VALUE);
    return CONV_COLS;
}

// The run's rows into shared memory, by the warps that have channels, and what is kept of them.
DEVICE void few_convolve(const StateConvArgs &a, const ConvChunk &c, const ConvWeights &weights, ConvWindow w,
                         u32 col, float *rows) {
    bool any = col < CONV_COLS;
#pragma unroll 1
    for (u32 row = c.row; row < c.end; row++) {
        Channels in = {};
        if (any) in = conv_input(a, row, col);
        Channels y = conv_sums(weights, w, in);
#ifdef STATE_DELTA
        y = conv_lengths(y, col);
#endif
        if (any) *(float4 *)(rows + (row - c.row) * ROW_FLOATS + thread_index() * 4) = vector_of(y);
        conv_shift(&w, in);
    }
    bool keeps = any && (few_rank() == 0 || thread_index() * 4 >= OF_VALUE);
    if (keeps) conv_keep_window(c.kept, w, col);
}

// ---- the norm and the gate ----

// The gate of the column that this lane has what a row gives of (row_output).
DEVICE float few_gate_input(const StateGateArgs &a, const HeadUnit &u, u32 row) {
    u32 col = u.head * VALUE_DIM + u.first_col + own_column() + own_lane() % OWN_COLS;
    return load_shared_data(a.raw + (u64)row * RAW_COLS + GATE_AT + col);
}

// What a row gives, to all blocks of the norm: each lane of a column has it, and sends it to some of them.
DEVICE void few_share(float y, float gate, float *values, float *gates, BulkBarrier *barrier) {
    u32 col = own_column() + own_lane() % OWN_COLS;
    float v = gate_before(y, gate);
#pragma unroll
    for (u32 b = 0; b < NORM_BLOCKS; b += LANES / OWN_COLS) {
        u32 block = b + own_lane() / OWN_COLS;
        if (block >= NORM_BLOCKS) break;
        u32 rank = few_rank() / NORM_BLOCKS * NORM_BLOCKS + block;
        cluster_store(cluster_address(values + few_norm_col() + col, rank), v,
                      cluster_address(barrier, rank));
    }
    if (own_lane() < OWN_COLS) gates[col] = gate;
}

// The block's columns of a row's norm, by a warp. first: of the heads' columns; weight: of this lane's pair.
DEVICE void few_norm(const StateGateArgs &a, u32 row, u32 first, float2 weight, const float *values,
                     const float *gates) {
    float squares = 0;
#pragma unroll
    for (u32 i = 0; i < TURNS; i++) {
        u32 col = i * TURN_COLS + lane_index() * 2;
        if (col < NORM_COLS) squares = gate_squares(*(const float2 *)(values + col), squares);
    }
    float factor = gate_factor(gate_of_lanes(squares));
    u32 col = lane_index() * 2;
    if (col >= COLS) return;
    float2 v = *(const float2 *)(values + few_norm_col() + col), gate = *(const float2 *)(gates + col);
    activation_store_2(a.out, row, first + col, gate_behind(v.x, factor, weight.x, gate.x),
                       gate_behind(v.y, factor, weight.y, gate.y));
}

EXPORTED StageInfo state_few_info = {HEADS_THREADS, {FEW_BLOCKS, 1}, FEW_FLOATS * 4, CLUSTER_BLOCKS};

KERNEL_OF_CLUSTERS(HEADS_THREADS, FEW_PER_SM, CLUSTER_BLOCKS) state_few(StateFewArgs a) {
    float *rows = (float *)shared_memory(), *values = rows + VALUES_AT, *gates = rows + GATES_AT;
    BulkBarrier *barrier = (BulkBarrier *)(rows + BARRIER_AT); // all of the norms' values are there
    stage_launch_next();
    if (block_index() >= a.heads.batch->n_runs * (KEY_HEADS * CLUSTER_BLOCKS)) return;
    HeadUnit u = few_unit(a.heads);
    HeadRows h = {state_load(a.heads, u), {}, {}, nullptr, 0};
#ifdef STATE_SSM
    h.skip = a.heads.skip[u.head];
#endif
    u32 n_rows = MAX_ROWS == 1 ? 1 : u.run.n_rows, col = few_channel(u);
    ConvChunk c = {u.run.row, u.run.row + n_rows, u.run, u.position,
                   a.conv.kept + u.slot * a.conv.slot_floats};
    ConvWeights weights = conv_weights(a.conv, col);
    ConvWindow window = {};
    if (col < CONV_COLS) window = conv_window(a.conv, c, col);
    u32 first = u.head * VALUE_DIM + u.first_col;
    const float *norm = a.gate.norm + first / NORM_COLS % NORM_WEIGHTS * NORM_COLS + few_norm_col();
    prefetch_l2(norm + lane_index() * 2 % COLS);
    prefetch_l2(a.conv.decay + u.head);
    if (thread_index() == 0) {
        bulk_barrier_init(barrier, 1);
        bulk_barrier_init_fence();
        bulk_barrier_expect(barrier, n_rows * NORM_COLS * 4);
    }
    cluster_sync(); // all blocks have begun, and have read what is kept
    stage_wait();

    float gate_input = few_gate_input(a.gate, u, u.run.row);
    if (warp_index() * WARP < CONV_UNITS) few_convolve(a.conv, c, weights, window, col, rows);
    u32 row = HEADS_THREADS - 1 - thread_index(); // by other warps
    if (row < n_rows)
        *(float4 *)(rows + row * ROW_FLOATS + OF_FACTORS) =
            row_factors(a.conv, c.row + row, u.head, a.conv.decay[u.head]);
    block_sync();
#pragma unroll 1
    for (u32 i = 0; i < n_rows; i++) {
        const float *in = rows + i * ROW_FLOATS;
        float gate = activate(gate_input);
        if (i + 1 < n_rows) gate_input = few_gate_input(a.gate, u, c.row + i + 1);
        row_into_state(&h, load_keys(in + OF_KEY), in);
        h.query = load_keys(in);
        few_share(row_output(h), gate, values + i * NORM_COLS, gates + i * COLS, barrier);
    }
    float2 weight = *(const float2 *)(norm + lane_index() * 2 % COLS);
    state_store(a.heads, u, u.slot, h.state);
    block_sync(); // the gates are there
    bulk_barrier_wait_cluster(barrier, 0);
#pragma unroll 1
    for (u32 i = warp_index(); i < n_rows; i += HEADS_WARPS) {
        few_norm(a.gate, c.row + i, first, weight, values + i * NORM_COLS, gates + i * COLS);
    }
}
