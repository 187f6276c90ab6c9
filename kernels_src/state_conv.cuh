// Short convolutions: what each row of a text is with those before it, channel by channel.
//
//     y[row][c] = act(sum over t of w[c][t] in[row - (TAPS - 1) + t][c] + b[c])    rows before the text: 0
//     in[row] = raw[row]; GATED_ROWS: in[row] = raw[row] * raw[row][TIMES_AT …]
//     STATE_SSM    mixed = y
//     STATE_DELTA  mixed = y, but heads of queries and keys of length 1: v / sqrt(v . v + 1e-6); queries also
//                  divided by sqrt(KEY_DIM)
//     GATED_ROWS   out = y * raw[row][GATE_AT …] / GLU_DIVISOR
// and what state_heads.cuh wants of each head: with t = softplus(raw[row][DT_AT + head])
//     factors = {exp(decay t), t}                         STATE_SSM
//     factors = {exp(decay t), sigmoid(raw[row][BETA_AT + head])}          STATE_DELTA
//
// Order of sums: the taps from the oldest row to this one, then the bias; a length: a lane's four channels,
// then lanes KEY_DIM / 8 apart … 1.
//
// What a text keeps in its slot: the last TAPS - 1 rows of `in`. Rows of a run are taken in chunks of CHUNK,
// counted from the run's first row. The first chunk's block alone reads what is kept, and then writes what is
// to be kept: of the run's last rows, which are in `raw`, whoever computes them. A prompt's row may
// say where those up to it are kept besides (BatchRow.keep): at a checkpoint's place, which nobody reads in
// this step.
//
// In a prompt the next stage starts when all of this one has ended: state_heads' blocks that started earlier
// would go where there happens to be room, several on one multiprocessor, and each take as long as all of
// them. On empty multiprocessors they are spread.
//
// Operations: CONV; GATED_ROWS: GLU, CONV, GLU. Grid: chunks of rows x parts of 512 channels, and parts of
// 128 heads; blocks take several in turn. A thread has four channels. Defines: MAX_ROWS, CONV_COLS (a
// multiple of 4), TAPS (2 … 8), RAW_COLS, ACTIVATION; one of STATE_DELTA (with STATE_HEADS, KEY_HEADS,
// KEY_DIM: 16, 32, 64 or 128, QUERY_SCALE: 1 / sqrt(KEY_DIM); DT_AT, BETA_AT), STATE_SSM (with STATE_HEADS,
// DT_AT), GATED_ROWS (with TIMES_AT, GATE_AT); LONG_RUNS (of prompts; else runs are mostly of one row).
#if !defined(MAX_ROWS) || !defined(CONV_COLS) || !defined(TAPS) || !defined(RAW_COLS) || CONV_COLS % 4 || \
    TAPS < 2 || TAPS > 8 || RAW_COLS % 4
#error "MAX_ROWS, CONV_COLS, TAPS, RAW_COLS"
#endif
#if defined(STATE_DELTA) + defined(STATE_SSM) + defined(GATED_ROWS) != 1
#error "STATE_DELTA, STATE_SSM or GATED_ROWS"
#endif
#if defined(STATE_DELTA) && (128 % KEY_DIM || KEY_DIM < 16)
#error "KEY_DIM"
#endif
#ifdef GATED_ROWS
#define STATE_HEADS 0
#endif

enum : u32 {
    CONV_THREADS = 128,
    KEPT = TAPS - 1,
    CHUNK = 8, // rows
// A block looks for chunks that begin at so many rows.
#ifdef LONG_RUNS
    RANGE = CHUNK,
#else
    RANGE = 1,
#endif
    CONV_PARTS = CEIL_DIV(CONV_COLS, 4 * CONV_THREADS),
    PARTS = CONV_PARTS + CEIL_DIV(STATE_HEADS, CONV_THREADS),
    // A block stays with its part of the channels.
    CONV_BLOCKS = MIN(CEIL_DIV(MAX_ROWS, RANGE), MAX(ROW_BLOCKS_MAX / PARTS, 1)) * PARTS,
};
static_assert(CHUNK >= KEPT, "no other chunk than a run's first one needs what is kept");

// Values of a thread's four channels.
struct Channels {
    float of[4];
};
DEVICE Channels channels_of(float4 v) {
    return {{v.x, v.y, v.z, v.w}};
}
DEVICE float4 vector_of(const Channels &c) {
    return {c.of[0], c.of[1], c.of[2], c.of[3]};
}

struct ConvWeights {
    float of[4 * TAPS]; // [channel][tap]
    Channels bias;
};

// Weights of the channels from col on; none past the end.
DEVICE ConvWeights conv_weights(const StateConvArgs &a, u32 col) {
    ConvWeights w = {};
    if (col >= CONV_COLS) return w;
#pragma unroll
    for (u32 i = 0; i < TAPS; i++) {
        float4 v = ((const float4 *)(a.weight + (u64)col * TAPS))[i];
        w.of[4 * i] = v.x, w.of[4 * i + 1] = v.y, w.of[4 * i + 2] = v.z, w.of[4 * i + 3] = v.w;
    }
    if (a.bias != 0) w.bias = channels_of(*(const float4 *)(a.bias + col));
    return w;
}

DEVICE Channels conv_input(const StateConvArgs &a, u32 row, u32 col) {
    const float *raw = a.raw + (u64)row * RAW_COLS + col;
    float4 v = load_shared_data((const float4 *)raw);
#ifdef GATED_ROWS
    float4 times = load_shared_data((const float4 *)(raw + TIMES_AT));
    v = {times.x * v.x, times.y * v.y, times.z * v.z, times.w * v.w};
#endif
    return channels_of(v);
}

// Rows [row, end) of a run.
struct ConvChunk {
    u32 row, end;
    RowRun run;
    u32 position; // of the run's first row
    float *kept;  // the slot's
};

// The TAPS - 1 inputs before the chunk, the oldest first.
struct ConvWindow {
    Channels of[KEPT];
};
DEVICE ConvWindow conv_window(const StateConvArgs &a, const ConvChunk &c, u32 col) {
    ConvWindow w;
#pragma unroll
    for (u32 i = 0; i < KEPT; i++) {
        u32 back = KEPT - i;
        w.of[i] = {};
        if (c.row > c.run.row) w.of[i] = conv_input(a, c.row - back, col);
        else if (c.position >= back)
            w.of[i] = channels_of(load_shared_data((const float4 *)(c.kept + (u64)i * CONV_COLS + col)));
    }
    return w;
}

// The inputs up to a row.
DEVICE void conv_keep_window(float *kept, const ConvWindow &w, u32 col) {
#pragma unroll
    for (u32 i = 0; i < KEPT; i++) {
        *(float4 *)(kept + (u64)i * CONV_COLS + col) = vector_of(w.of[i]);
    }
}

#ifndef STAGE_STATE_FEW
// The inputs up to the run's last row. Of a run's first chunk, whose window it is.
DEVICE void conv_keep(const StateConvArgs &a, const ConvChunk &c, const ConvWindow &w, u32 col) {
    u32 n = c.run.n_rows;
#pragma unroll
    for (u32 i = 0; i < KEPT; i++) {
        Channels v = {};
        if (n + i >= KEPT) v = conv_input(a, c.run.row + (n + i - KEPT), col);
#pragma unroll
        for (u32 k = i + 1; k < KEPT; k++) {
            if (i + n == k) v = w.of[k];
        }
        *(float4 *)(c.kept + (u64)i * CONV_COLS + col) = vector_of(v);
    }
}
#endif

DEVICE Channels conv_sums(const ConvWeights &w, const ConvWindow &before, const Channels &in) {
    Channels y;
#pragma unroll
    for (u32 c = 0; c < 4; c++) {
        float s = w.of[c * TAPS] * before.of[0].of[c];
#pragma unroll
        for (u32 t = 1; t < KEPT; t++) {
            s = fma_f32(w.of[c * TAPS + t], before.of[t].of[c], s);
        }
        y.of[c] = activate(fma_f32(w.of[c * TAPS + KEPT], in.of[c], s) + w.bias.of[c]);
    }
    return y;
}

#ifdef STATE_DELTA
// Heads of queries and of keys become of length 1.
DEVICE Channels conv_lengths(Channels y, u32 col) {
    float s = y.of[0] * y.of[0];
#pragma unroll
    for (u32 c = 1; c < 4; c++) {
        s = fma_f32(y.of[c], y.of[c], s);
    }
#pragma unroll
    for (u32 m = KEY_DIM / 8; m > 0; m /= 2) {
        s += shuffle_xor(s, m);
    }
    float factor = reciprocal_sqrt_fast(s + 1e-6f); // of the published models' code, no key says it
    if (col < KEY_HEADS * KEY_DIM) factor *= QUERY_SCALE;
    if (col >= 2 * KEY_HEADS * KEY_DIM) factor = 1;
#pragma unroll
    for (u32 c = 0; c < 4; c++) {
        y.of[c] *= factor;
    }
    return y;
}
#endif

// The row as the last one of a window.
DEVICE void conv_shift(ConvWindow *w, const Channels &in) {
#pragma unroll
    for (u32 i = 0; i + 1 < KEPT; i++) {
        w->of[i] = w->of[i + 1];
    }
    w->of[KEPT - 1] = in;
}

#ifndef STAGE_STATE_FEW
DEVICE void conv_store(const StateConvArgs &a, u32 row, u32 col, Channels y) {
#ifdef GATED_ROWS
    float4 gate = load_shared_data((const float4 *)(a.raw + (u64)row * RAW_COLS + GATE_AT + col));
    float4 v = {y.of[0] * gate.x, y.of[1] * gate.y, y.of[2] * gate.z, y.of[3] * gate.w};
    const float part = 1 / GLU_DIVISOR;
    activation_store_4(a.out, row, col, {v.x * part, v.y * part, v.z * part, v.w * part});
#else
    *(float4 *)(a.mixed + (u64)row * CONV_COLS + col) = vector_of(y);
#endif
}

// All threads; those past the last channel compute with zeros.
DEVICE void conv_chunk(const StateConvArgs &a, const ConvChunk &c, const ConvWeights &weights, u32 col) {
    bool any = col < CONV_COLS;
    ConvWindow w = {};
    if (any) w = conv_window(a, c, col);
    if (any && c.row == c.run.row) conv_keep(a, c, w, col);
    Channels next = {};
    if (any && c.row < c.end) next = conv_input(a, c.row, col);
    for (u32 row = c.row; row < c.end; row++) {
        Channels in = next; // and the next one's load goes beside this one's work
        if (any && row + 1 < c.end) next = conv_input(a, row + 1, col);
#ifdef LONG_RUNS
        u32 keep = a.rows[row].keep;
#endif
        Channels y = conv_sums(weights, w, in);
#ifdef STATE_DELTA
        y = conv_lengths(y, col);
#endif
        if (any) conv_store(a, row, col, y);
        conv_shift(&w, in);
#ifdef LONG_RUNS
        if (any && keep) conv_keep_window(a.kept + keep * a.slot_floats, w, col);
#endif
    }
}
#endif

// ---- heads ----

#if STATE_HEADS > 0
// ln(1 + e^x) (Dugas et al. 2001). 1 + e rounds e's last bits away; ln(u) / (u - 1) has the same error.
DEVICE float softplus(float x) {
    if (x > 20.0f) return x;
    float e = exp_f32(x), u = 1.0f + e;
    return u == 1.0f ? e : log_f32(u) * divide_f32(e, u - 1.0f);
}

// A head's factors of a row.
DEVICE float4 row_factors(const StateConvArgs &a, u32 row, u32 head, float decay) {
    const float *raw = a.raw + (u64)row * RAW_COLS + head;
    float dt = load_shared_data(raw + DT_AT);
#ifdef STATE_DELTA
    float beta = load_shared_data(raw + BETA_AT), t = softplus(dt);
    float counts = divide_f32(1.0f, 1.0f + exp_f32(-beta));
#else
    float t = softplus(dt), counts = t;
#endif
    return {exp_f32(decay * t), counts, 0, 0};
}

DEVICE void head_factors(const StateConvArgs &a, const ConvChunk &c, u32 head) {
    if (head >= STATE_HEADS) return;
    float decay = a.decay[head];
    for (u32 row = c.row; row < c.end; row++) {
        *(float4 *)(a.factors + ((u64)row * STATE_HEADS + head) * 4) = row_factors(a, row, head, decay);
    }
}
#endif

#ifndef STAGE_STATE_FEW
// ---- blocks ----

// The chunk that begins at a row; none: row == end.
DEVICE ConvChunk chunk_at(const StateConvArgs &a, u32 row) {
    const BatchRow *r = a.rows + row;
    ConvChunk c;
    c.run = a.runs[r->run];
    c.row = row;
    c.end = (row - c.run.row) % CHUNK ? row : MIN(row + CHUNK, c.run.row + c.run.n_rows);
    c.position = r->position - (row - c.run.row);
    c.kept = a.kept + r->slot * a.slot_floats;
    return c;
}

EXPORTED StageInfo state_conv_info = {CONV_THREADS, {CONV_BLOCKS, 1}, 0};

KERNEL(CONV_THREADS, 1) state_conv(StateConvArgs a) {
#ifndef LONG_RUNS
    stage_launch_next();
#endif
    u32 part = block_index() % PARTS, col = (part * CONV_THREADS + thread_index()) * 4;
    ConvWeights weights = conv_weights(a, col);
    stage_wait();
    u32 n_rows = a.batch->n_rows, n = CEIL_DIV(n_rows, RANGE) * PARTS;
    for (u32 i = block_index(); i < n; i += CONV_BLOCKS) {
        u32 first = i / PARTS * RANGE, end = MIN(first + RANGE, n_rows);
        for (u32 row = first; row < end; row++) {
            ConvChunk c = chunk_at(a, row);
#if STATE_HEADS > 0
            if (part >= CONV_PARTS) {
                head_factors(a, c, (part - CONV_PARTS) * CONV_THREADS + thread_index());
                continue;
            }
#endif
            if (c.row < c.end) conv_chunk(a, c, weights, col);
        }
    }
}
#endif
