// Operations of layers that keep a state. A text's rows of a step are taken one after the other, each from
// the state that the one before it has left: the same sums in the same order however the text is cut.
#include "backend/cpu/cpu_ops_internal.h"

#include <math.h>

// The rows of one sequence, for one cache.
typedef struct {
    const StepSequence *part;
    uint32_t cache;
    uint32_t first, end;
    const float *before; // its state; NULL: it is zero
    float *after;        // what the last row leaves
} StateRows;

static StateRows rows_of(const CpuStep *s, uint32_t sequence, uint32_t cache) {
    const StepSequence *q = &s->step->sequences[sequence];
    uint32_t first = s->first_rows[sequence];
    return (StateRows){.part = q,
                       .cache = cache,
                       .first = first,
                       .end = first + q->n_rows,
                       .before = q->position ? state_at(&s->states, q->slot, cache, STATE_BEFORE) : NULL,
                       .after = state_at(&s->states, q->slot, cache, STATE_AFTER)};
}

// The checkpoint that gets the state behind a row; NULL: none.
static float *checkpoint_at(const CpuStep *s, const StateRows *rows, uint32_t row) {
    const CpuStates *states = &s->states;
    const StepKeep *keeps = rows->part->keeps;
    for (uint32_t i = 0; i < rows->part->n_keeps; i++) {
        if (rows->first + keeps[i].n_rows == row + 1)
            return states->checkpoints + keeps[i].place * states->slot_values + states->first[rows->cache];
    }
    return NULL;
}

// ---- short convolutions ----

// The input of the row that is `back` rows before `row`, from this step or from the state; NULL before the
// text.
static const float *conv_row(const CpuStep *s, const Op *op, const StateRows *rows, uint32_t row,
                             uint32_t back) {
    if (row >= rows->first + back) return in_row(s, op, 0, row - back);
    uint32_t missing = rows->first + back - row; // 1: the row right before the step's
    return rows->before ? rows->before + (uint64_t)(op->conv.taps - 1 - missing) * op->in_width[0] : NULL;
}

// out += weight[taps c] * in[c]
CPU_CLONES static void add_tap(float *restrict out, const float *restrict in, const float *restrict weight,
                               uint32_t taps, uint32_t n) {
    for (uint32_t c = 0; c < n; c++)
        out[c] += weight[(uint64_t)c * taps] * in[c];
}

static void conv_one_row(const CpuOp *cpu_op, const CpuStep *s, const StateRows *rows, uint32_t row) {
    const Op *op = cpu_op->op;
    uint32_t taps = op->conv.taps, width = op->out_width;
    float *out = out_row(s, op, row);
    memset(out, 0, width * sizeof *out);
    for (uint32_t tap = 0; tap < taps; tap++) {
        const float *in = conv_row(s, op, rows, row, taps - 1 - tap);
        if (in) add_tap(out, in, cpu_op->weight_f32 + tap, taps, width);
    }
    for (uint32_t c = 0; c < width; c++)
        out[c] = activate(op->conv.fn, out[c] + (cpu_op->bias_f32 ? cpu_op->bias_f32[c] : 0));
}

// The inputs up to a row.
static void keep_inputs(const CpuStep *s, const Op *op, const StateRows *rows, uint32_t row, float *to) {
    uint32_t kept = op->conv.taps - 1, width = op->in_width[0];
    for (uint32_t i = 0; i < kept; i++) {
        const float *in = conv_row(s, op, rows, row, kept - 1 - i);
        if (in) memcpy(to + (uint64_t)i * width, in, width * sizeof *in);
        else memset(to + (uint64_t)i * width, 0, width * sizeof *in);
    }
}

void conv_rows(void *context, uint32_t thread, uint32_t from, uint32_t to) {
    (void)thread;
    const RowWork *w = context;
    const CpuStep *s = w->step;
    const Op *op = w->op->op;
    for (uint32_t row = from; row < to; row++) {
        StateRows rows = rows_of(s, s->rows[row].sequence, op->conv.cache);
        float *kept = checkpoint_at(s, &rows, row);
        conv_one_row(w->op, s, &rows, row);
        if (kept) keep_inputs(s, op, &rows, row, kept);
        if (row + 1 == rows.end) keep_inputs(s, op, &rows, row, rows.after);
    }
}

// ---- states of heads ----

static float softplus(float x) {
    return x > 20 ? x : log1pf(expf(x));
}

static uint32_t key_head_of(const Op *op, uint32_t head) {
    uint32_t n = op->state.n_key_heads;
    return op->state.tiled ? head % n : head / (op->state.n_heads / n);
}

// The head's matrix as the rows find it, where they leave it.
static float *begin_head(const Op *op, const StateRows *rows, uint32_t head) {
    uint64_t values = (uint64_t)op->state.key_dim * op->state.value_dim;
    float *state = rows->after + head * values;
    if (rows->before) memcpy(state, rows->before + head * values, values * sizeof *state);
    else memset(state, 0, values * sizeof *state);
    return state;
}

// Its state behind a row, where that is kept as a checkpoint.
static void keep_head(const Op *op, const CpuStep *s, const StateRows *rows, uint32_t head, uint32_t row) {
    uint64_t values = (uint64_t)op->state.key_dim * op->state.value_dim, at = head * values;
    float *kept = checkpoint_at(s, rows, row);
    if (kept) memcpy(kept + at, rows->after + at, values * sizeof *kept);
}

CPU_CLONES static void scale_by(float *out, const float *in, float scale, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        out[i] = scale * in[i];
}

// out = in / |in| * scale
static void normalize(float *out, const float *in, float scale, uint32_t n) {
    static const float eps = 1e-6f; // of the published models' code, no key says it
    scale_by(out, in, scale / sqrtf(dot_f32(in, in, n) + eps), n);
}

// With S = d S of the state before, d = exp(A softplus(dt)), beta = sigmoid(in2), q and k of length 1:
// S += k (beta (v - S^T k))^T, and out = S^T q / sqrt(key_dim). S lies as [value_dim][key_dim].
static void delta_head(const CpuOp *cpu_op, const CpuStep *s, uint32_t sequence, uint32_t head) {
    const Op *op = cpu_op->op;
    uint32_t key_dim = op->state.key_dim, value_dim = op->state.value_dim, n_keys = op->state.n_key_heads;
    uint32_t key_head = key_head_of(op, head);
    StateRows rows = rows_of(s, sequence, op->state.cache);
    float *state = begin_head(op, &rows, head), query[STATE_DIM_MAX], key[STATE_DIM_MAX];
    for (uint32_t row = rows.first; row < rows.end; row++) {
        const float *mixed = in_row(s, op, 0, row);
        const float *values = mixed + 2 * (uint64_t)n_keys * key_dim + (uint64_t)head * value_dim;
        float decay = expf(cpu_op->weight_f32[head] * softplus(in_row(s, op, 1, row)[head]));
        float beta = activate(FN_SIGMOID, in_row(s, op, 2, row)[head]);
        float *out = out_row(s, op, row) + (uint64_t)head * value_dim;
        normalize(query, mixed + (uint64_t)key_head * key_dim, 1 / sqrtf((float)key_dim), key_dim);
        normalize(key, mixed + (uint64_t)(n_keys + key_head) * key_dim, 1, key_dim);
        for (uint32_t i = 0; i < value_dim; i++) {
            float *column = state + (uint64_t)i * key_dim;
            scale_by(column, column, decay, key_dim);
            add_scaled(column, key, beta * (values[i] - dot_f32(column, key, key_dim)), key_dim);
            out[i] = dot_f32(column, query, key_dim);
        }
        keep_head(op, s, &rows, head, row);
    }
}

// With t = softplus(dt) and S = exp(A t) S of the state before: S += t x b^T, and out = S c + D x.
static void ssm_head(const CpuOp *cpu_op, const CpuStep *s, uint32_t sequence, uint32_t head) {
    const Op *op = cpu_op->op;
    uint32_t dim = op->state.key_dim, head_dim = op->state.value_dim, n_groups = op->state.n_key_heads;
    uint64_t inner = (uint64_t)op->state.n_heads * head_dim;
    StateRows rows = rows_of(s, sequence, op->state.cache);
    float *state = begin_head(op, &rows, head), skip = cpu_op->bias_f32[head];
    for (uint32_t row = rows.first; row < rows.end; row++) {
        const float *mixed = in_row(s, op, 0, row), *x = mixed + (uint64_t)head * head_dim;
        const float *b = mixed + inner + (uint64_t)key_head_of(op, head) * dim;
        const float *c = b + (uint64_t)n_groups * dim;
        float t = softplus(in_row(s, op, 1, row)[head]), decay = expf(cpu_op->weight_f32[head] * t);
        float *out = out_row(s, op, row) + (uint64_t)head * head_dim;
        for (uint32_t i = 0; i < head_dim; i++) {
            float *column = state + (uint64_t)i * dim;
            scale_by(column, column, decay, dim);
            add_scaled(column, b, t * x[i], dim);
            out[i] = dot_f32(column, c, dim) + skip * x[i];
        }
        keep_head(op, s, &rows, head, row);
    }
}

// Items are (sequence, head) pairs.
static void state_items(void *context, uint32_t thread, uint32_t from, uint32_t to) {
    (void)thread;
    const RowWork *w = context;
    const Op *op = w->op->op;
    for (uint32_t item = from; item < to; item++) {
        uint32_t sequence = item / op->state.n_heads, head = item % op->state.n_heads;
        if (op->kind == OP_DELTA) delta_head(w->op, w->step, sequence, head);
        else ssm_head(w->op, w->step, sequence, head);
    }
}

void state_op(const CpuOp *op, CpuStep *s) {
    RowWork work = {op, s};
    pool_run(s->pool, state_items, &work, s->step->n_sequences * op->op->state.n_heads, 1);
}
