#include "backend/cpu/cpu_ops_internal.h"

#include "backend/cpu/cpu_route.h"
#include "backend/cpu/matmul.h"
#include "base/f16.h"

#include <math.h>

// Runs a function over the step's rows, in threads when there are many.
static void for_rows(PoolFn *fn, const CpuOp *op, CpuStep *s) {
    RowWork work = {op, s};
    pool_run(s->pool, fn, &work, s->n_rows, 8);
}

static void embed_rows(void *context, uint32_t thread, uint32_t from, uint32_t to) {
    (void)thread;
    const RowWork *w = context;
    const Op *op = w->op->op;
    const DtypeInfo *info = dtype_info(op->weight->dtype);
    uint64_t width = op->weight->n_cols;
    for (uint32_t row = from; row < to; row++) {
        float *out = out_row(w->step, op, row);
        info->dequantize(weight_row(op->weight, 0, (uint64_t)w->step->rows[row].token), out,
                         width / info->block_elements);
        for (uint64_t i = 0; i < width && op->embed.scale != 1; i++)
            out[i] *= op->embed.scale;
    }
}

static void add_position_rows(void *context, uint32_t thread, uint32_t from, uint32_t to) {
    (void)thread;
    const RowWork *w = context;
    const Op *op = w->op->op;
    uint32_t width = op->out_width;
    for (uint32_t row = from; row < to; row++) {
        const float *in = in_row(w->step, op, 0, row);
        const float *learned = w->op->weight_f32 + (uint64_t)w->step->rows[row].position * width;
        float *out = out_row(w->step, op, row);
        for (uint32_t i = 0; i < width; i++)
            out[i] = in[i] + learned[i];
    }
}

// The sums of a mean are made in double: they are short, and the reference should not be the one to lose
// bits.
static void rms_norm(const float *in, float *out, const float *weight, uint32_t n, float eps) {
    double squares = 0;
    for (uint32_t i = 0; i < n; i++)
        squares += (double)in[i] * (double)in[i];
    float scale = (float)(1 / sqrt(squares / n + (double)eps));
    for (uint32_t i = 0; i < n; i++)
        out[i] = in[i] * scale * (weight ? weight[i] : 1);
}

static void layer_norm(const float *in, float *out, const float *weight, const float *bias, uint32_t n,
                       float eps) {
    double sum = 0, squares = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += (double)in[i];
    double mean = sum / n;
    for (uint32_t i = 0; i < n; i++)
        squares += ((double)in[i] - mean) * ((double)in[i] - mean);
    double scale = 1 / sqrt(squares / n + (double)eps);
    for (uint32_t i = 0; i < n; i++) {
        out[i] = (float)(((double)in[i] - mean) * scale) * weight[i] + (bias ? bias[i] : 0);
    }
}

static void norm_rows(void *context, uint32_t thread, uint32_t from, uint32_t to) {
    (void)thread;
    const RowWork *w = context;
    const Op *op = w->op->op;
    uint32_t group = op->norm.group, width = op->out_width;
    uint32_t weight_step = op->weight && op->weight->n_rows > 1 ? group : 0; // groups may have their own
    for (uint32_t row = from; row < to; row++) {
        const float *in = in_row(w->step, op, 0, row);
        float *out = out_row(w->step, op, row);
        uint32_t i = 0;
        for (; i + group <= width; i += group) {
            const float *weight = op->weight ? w->op->weight_f32 + i / group * weight_step : NULL;
            if (op->kind == OP_RMS_NORM) rms_norm(in + i, out + i, weight, group, op->norm.eps);
            else layer_norm(in + i, out + i, weight, w->op->bias_f32, group, op->norm.eps);
        }
        if (out != in) memcpy(out + i, in + i, (width - i) * sizeof *out);
    }
}

static void add_rows(void *context, uint32_t thread, uint32_t from, uint32_t to) {
    (void)thread;
    const RowWork *w = context;
    const Op *op = w->op->op;
    uint64_t width = op->out_width;
    const float *a = in_row(w->step, op, 0, from), *b = in_row(w->step, op, 1, from);
    float *out = out_row(w->step, op, from), scale = op->add.scale;
    for (uint64_t i = 0; i < (to - from) * width; i++)
        out[i] = a[i] + b[i] * scale;
}

static void scale_rows(void *context, uint32_t thread, uint32_t from, uint32_t to) {
    (void)thread;
    const RowWork *w = context;
    const Op *op = w->op->op;
    const float *in = in_row(w->step, op, 0, from), *weight = w->op->weight_f32;
    uint64_t n_weights = op->weight ? op->weight->n_cols : 1;
    float *out = out_row(w->step, op, from);
    for (uint64_t i = 0; i < (uint64_t)(to - from) * op->out_width; i++)
        out[i] = in[i] * (op->scale * (weight ? weight[i % n_weights] : 1));
}

static void slice_rows(void *context, uint32_t thread, uint32_t from, uint32_t to) {
    (void)thread;
    const RowWork *w = context;
    const Op *op = w->op->op;
    for (uint32_t row = from; row < to; row++) {
        const float *part = in_row(w->step, op, 0, row) + (uint64_t)op->layer * op->out_width;
        memcpy(out_row(w->step, op, row), part, op->out_width * sizeof(float));
    }
}

// Turns the pairs of all heads of one row in place.
static void rope_row(const Op *op, float *row, uint32_t position) {
    const Rope *rope = op->rope.rope;
    uint32_t half = rope->dims / 2;
    uint32_t step = rope->pairs == ROPE_INTERLEAVED ? 2 : 1,
             apart = rope->pairs == ROPE_INTERLEAVED ? 1 : half;
    for (uint32_t i = 0; i < half; i++) {
        float angle = (float)position * rope->inv_freq[i];
        float cosine = cosf(angle) * rope->scale, sine = sinf(angle) * rope->scale;
        for (uint32_t head = 0; head < op->rope.n_heads; head++) {
            float *first = row + (uint64_t)head * op->rope.head_dim + op->rope.first + i * step;
            float *second = first + apart;
            float a = *first, b = *second;
            *first = a * cosine - b * sine;
            *second = a * sine + b * cosine;
        }
    }
}

static void rope_rows(void *context, uint32_t thread, uint32_t from, uint32_t to) {
    (void)thread;
    const RowWork *w = context;
    const Op *op = w->op->op;
    for (uint32_t row = from; row < to; row++) {
        float *out = out_row(w->step, op, row);
        const float *in = in_row(w->step, op, 0, row);
        if (out != in) memcpy(out, in, op->out_width * sizeof(float));
        rope_row(op, out, w->step->rows[row].position);
    }
}

void cpu_round_to_q8(const float *in, float *out, uint32_t n) {
    uint32_t largest = 0; // as bits, so that a NaN is larger than all
    for (uint32_t i = 0; i < n; i++)
        largest = (uint32_t)max_u64(largest, f32_to_bits(in[i]) & 0x7FFFFFFFu);
    float scale = f32_from_f16(f16_from_f32(f32_from_bits(largest) * (1 / 127.0f)));
    float inverse = scale > 0 ? 1 / scale : 0;
    for (uint32_t i = 0; i < n; i++)
        out[i] = rintf(fmaxf(fminf(in[i] * inverse, 127), -127)) * scale;
}

static void kv_write_row(const Op *op, const CpuStep *s, KvPart part, const float *in, float *cached) {
    uint32_t dim = part == KV_KEYS ? op->kv_write.key_dim : op->kv_write.value_dim;
    if (s->kv.caches[op->kv_write.cache].type == KV_TYPE_F16) {
        memcpy(cached, in, op->in_width[part] * sizeof(float));
        return;
    }
    for (uint32_t at = 0; at < op->in_width[part]; at += dim)
        cpu_round_to_q8(in + at, cached + at, dim);
}

static void kv_write_rows(void *context, uint32_t thread, uint32_t from, uint32_t to) {
    (void)thread;
    const RowWork *w = context;
    const CpuStep *s = w->step;
    const Op *op = w->op->op;
    for (uint32_t row = from; row < to; row++) {
        const RowPlace *place = &s->rows[row];
        const StepSequence *q = &s->step->sequences[place->sequence];
        KvPart last = s->kv.caches[op->kv_write.cache].is_latent ? KV_KEYS : KV_VALUES;
        for (KvPart part = KV_KEYS; part <= last; part++) {
            float *cached = kv_cache_row(&s->kv, q, op->kv_write.cache, part, place->position);
            kv_write_row(op, s, part, in_row(s, op, part, row), cached);
        }
    }
}

CPU_CLONES void add_scaled(float *restrict out, const float *restrict in, float weight, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        out[i] += weight * in[i];
}

// Scores become softmax weights; a sink takes its share and gives nothing back.
static void softmax(float *scores, uint32_t n, const float *sink) {
    float most = sink ? *sink : -INFINITY, sum = 0;
    for (uint32_t i = 0; i < n; i++)
        most = fmaxf(most, scores[i]);
    for (uint32_t i = 0; i < n; i++)
        sum += scores[i] = expf(scores[i] - most);
    if (sink) sum += expf(*sink - most);
    for (uint32_t i = 0; i < n; i++)
        scores[i] /= sum;
}

// Keeps a score or a logit within (-cap, cap).
static float capped(float x, float cap) {
    return cap > 0 ? cap * tanhf(x / cap) : x;
}

// On the scores of a row.
static float temperature_at(const Op *op, uint32_t position) {
    if (op->attention.temperature_scale == 0) return 1;
    uint32_t lengths = (position + op->attention.temperature_offset) / op->attention.temperature_length;
    return 1 + op->attention.temperature_scale * logf(1 + (float)lengths);
}

// One query head against the cache.
static void attend(const CpuOp *cpu_op, const CpuStep *s, uint32_t row, uint32_t head, float *scores) {
    const Op *op = cpu_op->op;
    const RowPlace *place = &s->rows[row];
    const StepSequence *q = &s->step->sequences[place->sequence];
    uint32_t cache = op->attention.cache;
    uint32_t key_dim = op->attention.key_dim, value_dim = op->attention.value_dim;
    uint32_t kv_head = head / (op->attention.n_heads / op->attention.n_kv_heads);
    uint32_t end = place->position + 1, begin = op_first_seen(op, place->position);
    const float *query = in_row(s, op, 0, row) + (uint64_t)head * key_dim;
    float *out = out_row(s, op, row) + (uint64_t)head * value_dim;
    float scale = op->attention.scale * temperature_at(op, place->position);
    for (uint32_t p = begin; p < end; p++) {
        const float *key = kv_cache_row(&s->kv, q, cache, KV_KEYS, p) + kv_head * key_dim;
        scores[p - begin] = capped(dot_f32(query, key, key_dim) * scale, op->attention.cap);
    }
    softmax(scores, end - begin, cpu_op->weight_f32 ? &cpu_op->weight_f32[head] : NULL);
    memset(out, 0, value_dim * sizeof(float));
    for (uint32_t p = begin; p < end; p++) {
        const float *value = kv_cache_row(&s->kv, q, cache, KV_VALUES, p) + kv_head * value_dim;
        add_scaled(out, value, scores[p - begin], value_dim);
    }
}

// Items are (row, head) pairs.
static void attention_items(void *context, uint32_t thread, uint32_t from, uint32_t to) {
    const RowWork *w = context;
    const CpuStep *s = w->step;
    uint32_t n_heads = w->op->op->attention.n_heads;
    for (uint32_t item = from; item < to; item++) {
        attend(w->op, s, item / n_heads, item % n_heads, s->scores + thread * s->scores_stride);
    }
}

static void attention(const CpuOp *op, CpuStep *s) {
    RowWork work = {op, s};
    uint32_t n_heads = op->op->attention.n_heads;
    pool_run(s->pool, attention_items, &work, s->n_rows * n_heads, s->n_rows > 1 ? n_heads : 1);
}

float activate(ActFn fn, float x) {
    switch (fn) {
    case FN_SWIGLU_CLAMPED: // of two values
    case FN_OF_ARCH:
    case FN_IDENTITY: break;
    case FN_SIGMOID: return 1 / (1 + expf(-x));
    case FN_TANH: return tanhf(x);
    case FN_SILU: return x / (1 + expf(-x));
    case FN_GELU_TANH:
        return 0.5f * x * (1 + tanhf(0.7978845608f * (x + 0.044715f * x * x * x))); // sqrt(2 / pi)
    case FN_RELU_SQUARED: return x > 0 ? x * x : 0 * x;                             // not a number stays that
    case FN_GELU_ERF: return 0.5f * x * (1 + erff(x * 0.7071067812f));              // 1 / sqrt(2)
    }
    return x;
}

static float gated(ActFn fn, float gate, float up) {
    if (fn != FN_SWIGLU_CLAMPED) return activate(fn, gate) * up;
    gate = gate > 7 ? 7 : gate; // not a number stays that
    up = up > 7 ? 7 : up < -7 ? -7 : up;
    return gate / (1 + expf(-1.702f * gate)) * (up + 1);
}

static void activation_rows(void *context, uint32_t thread, uint32_t from, uint32_t to) {
    (void)thread;
    const RowWork *w = context;
    const Op *op = w->op->op;
    uint64_t n = (uint64_t)(to - from) * op->out_width;
    const float *gate = in_row(w->step, op, 0, from);
    const float *up = op->kind == OP_GLU ? in_row(w->step, op, 1, from) : NULL;
    float *out = out_row(w->step, op, from);
    for (uint64_t i = 0; i < n; i++)
        out[i] = up ? gated(op->fn, gate[i], up[i]) : activate(op->fn, gate[i]);
}

static Matmul matmul_of(const CpuOp *op, const CpuStep *s, const float *in, float *out) {
    return (Matmul){.weight = op->op->weight,
                    .bias = op->bias_f32,
                    .in = in,
                    .out = out,
                    .in_stride = op->op->weight->n_cols,
                    .out_stride = op->op->weight->n_rows,
                    .n_tokens = s->n_rows,
                    .scratch = s->scratch,
                    .scratch_stride = s->scratch_stride};
}

static void matmul_op(const CpuOp *op, const CpuStep *s) {
    Matmul m = matmul_of(op, s, s->act[op->op->in[0]], s->act[op->op->out]);
    matmul_run(s->pool, &m);
}

// What follows in each head behind the values that are multiplied.
static void head_rest_rows(void *context, uint32_t thread, uint32_t from, uint32_t to) {
    (void)thread;
    const RowWork *w = context;
    const Op *op = w->op->op;
    uint64_t heads = op->weight->n_matrices, n_cols = op->weight->n_cols, n_rows = op->weight->n_rows;
    uint64_t in_head = op->in_width[0] / heads, out_head = op->out_width / heads;
    if (in_head <= n_cols) return;
    for (uint64_t i = from * heads; i < to * heads; i++) {
        memcpy(w->step->act[op->out] + i * out_head + n_rows, w->step->act[op->in[0]] + i * in_head + n_cols,
               (in_head - n_cols) * sizeof(float));
    }
}

static void head_matmul(const CpuOp *cpu_op, CpuStep *s) {
    const Op *op = cpu_op->op;
    uint64_t heads = op->weight->n_matrices;
    Matmul m = matmul_of(cpu_op, s, s->act[op->in[0]], s->act[op->out]);
    bool is_common = op->in_width[0] == op->weight->n_cols;
    m.in_stride = op->in_width[0];
    m.out_stride = op->out_width;
    for (m.matrix = 0; m.matrix < heads; m.matrix++) {
        matmul_run(s->pool, &m);
        if (!is_common) m.in += op->in_width[0] / heads;
        m.out += op->out_width / heads;
    }
    for_rows(head_rest_rows, cpu_op, s);
}

// Items are logits.
static void finish_logits(void *context, uint32_t thread, uint32_t from, uint32_t to) {
    (void)thread;
    const RowWork *w = context;
    for (uint64_t i = from; i < to; i++)
        w->step->logits[i] = capped(w->step->logits[i] * w->op->op->head.scale, w->op->op->head.cap);
}

static void head(const CpuOp *op, CpuStep *s) {
    uint32_t width = op->op->in_width[0], n_vocab = (uint32_t)op->op->weight->n_rows;
    for (uint32_t i = 0; i < s->n_wanted; i++) {
        memcpy(s->head_in + (uint64_t)i * width, in_row(s, op->op, 0, s->wanted[i]), width * sizeof(float));
    }
    Matmul m = matmul_of(op, s, s->head_in, s->logits);
    m.n_tokens = s->n_wanted;
    if (s->n_wanted) matmul_run(s->pool, &m);
    RowWork work = {op, s};
    if (op->op->head.cap > 0 || op->op->head.scale != 1)
        pool_run(s->pool, finish_logits, &work, s->n_wanted * n_vocab, 8192);
}

static void route_rows(void *context, uint32_t thread, uint32_t from, uint32_t to) {
    (void)thread;
    const RowWork *w = context;
    const Op *op = w->op->op;
    for (uint32_t row = from; row < to; row++) {
        float *experts = out_row(w->step, op, row);
        float *weights = experts + op->n_used;
        cpu_route(&op->route, in_row(w->step, op, 0, row), op->in_width[0], w->op->weight_f32, op->n_used,
                  experts, weights);
        for (uint32_t i = 0; w->op->bias_f32 && i < op->n_used; i++)
            weights[i] *= w->op->bias_f32[(uint32_t)experts[i]];
    }
}

// The (row, choice) pairs that chose an expert become tokens of its product, so that its weights are read
// once, and those of experts that nobody chose are not read.
static void expert_matmul(const CpuOp *cpu_op, const CpuStep *s) {
    const Op *op = cpu_op->op;
    const Weight *weight = op->weight;
    bool in_each = op->in_width[0] != weight->n_cols;
    Matmul m = matmul_of(cpu_op, s, s->act[op->in[0]], s->act[op->out]);
    m.rows = s->expert_rows;
    for (m.matrix = 0; m.matrix < weight->n_matrices; m.matrix++) {
        m.n_tokens = 0;
        for (uint32_t row = 0; row < s->n_rows; row++) {
            const float *experts = in_row(s, op, 1, row);
            for (uint32_t i = 0; i < op->n_used; i++) {
                uint32_t choice = row * op->n_used + i;
                if ((uint32_t)experts[i] == m.matrix)
                    s->expert_rows[m.n_tokens++] = (MatmulRow){.in = in_each ? choice : row, .out = choice};
            }
        }
        m.bias = cpu_op->bias_f32 ? cpu_op->bias_f32 + m.matrix * weight->n_rows : NULL;
        if (m.n_tokens) matmul_run(s->pool, &m);
    }
}

static void expert_weigh_rows(void *context, uint32_t thread, uint32_t from, uint32_t to) {
    (void)thread;
    const RowWork *w = context;
    const Op *op = w->op->op;
    uint32_t width = op->out_width / op->n_used;
    for (uint32_t row = from; row < to; row++) {
        const float *in = in_row(w->step, op, 0, row);
        const float *weights = in_row(w->step, op, 1, row) + op->n_used;
        float *out = out_row(w->step, op, row);
        for (uint32_t i = 0; i < op->out_width; i++)
            out[i] = in[i] * weights[i / width];
    }
}

static void expert_sum_rows(void *context, uint32_t thread, uint32_t from, uint32_t to) {
    (void)thread;
    const RowWork *w = context;
    const Op *op = w->op->op;
    uint32_t width = op->out_width;
    for (uint32_t row = from; row < to; row++) {
        const float *in = in_row(w->step, op, 0, row);
        const float *weights = in_row(w->step, op, 1, row) + op->n_used;
        float *out = out_row(w->step, op, row);
        memset(out, 0, width * sizeof *out);
        for (uint32_t i = 0; i < op->n_used; i++)
            add_scaled(out, in + (uint64_t)i * width, weights[i], width);
    }
}

// out = in0, for rows that no norm comes before.
static void copy_rows(void *context, uint32_t thread, uint32_t from, uint32_t to) {
    (void)thread;
    const RowWork *w = context;
    const Op *op = w->op->op;
    memcpy(out_row(w->step, op, from), in_row(w->step, op, 0, from),
           (uint64_t)(to - from) * op->out_width * sizeof(float));
}

static void share_rows(void *context, uint32_t thread, uint32_t from, uint32_t to) {
    (void)thread;
    const RowWork *w = context;
    const Op *op = w->op->op;
    for (uint32_t row = from; row < to; row++) {
        const float *in = in_row(w->step, op, 0, row);
        float *out = out_row(w->step, op, row);
        float share =
            1 / (1 + expf(-dot_f32(w->op->weight_f32, in_row(w->step, op, 1, row), op->in_width[1])));
        for (uint32_t i = 0; i < op->out_width; i++)
            out[i] = in[i] * share;
    }
}

void cpu_op_run(const CpuOp *op, CpuStep *s) {
    switch (op->op->kind) {
    case OP_EMBED: for_rows(embed_rows, op, s); break;
    case OP_ADD_POSITION: for_rows(add_position_rows, op, s); break;
    case OP_RMS_NORM:
    case OP_LAYER_NORM: for_rows(norm_rows, op, s); break;
    case OP_MATMUL: matmul_op(op, s); break;
    case OP_HEAD_MATMUL: head_matmul(op, s); break;
    case OP_ADD: for_rows(add_rows, op, s); break;
    case OP_ROPE: for_rows(rope_rows, op, s); break;
    case OP_KV_WRITE: for_rows(kv_write_rows, op, s); break;
    case OP_ATTENTION: attention(op, s); break;
    case OP_GLU:
    case OP_ACTIVATION: for_rows(activation_rows, op, s); break;
    case OP_HEAD: head(op, s); break;
    case OP_COPY: for_rows(copy_rows, op, s); break;
    case OP_SCALE: for_rows(scale_rows, op, s); break;
    case OP_SLICE: for_rows(slice_rows, op, s); break;
    case OP_ROUTE: for_rows(route_rows, op, s); break;
    case OP_SHARE: for_rows(share_rows, op, s); break;
    case OP_EXPERT_MATMUL: expert_matmul(op, s); break;
    case OP_EXPERT_WEIGH: for_rows(expert_weigh_rows, op, s); break;
    case OP_EXPERT_SUM: for_rows(expert_sum_rows, op, s); break;
    case OP_SPARSIFY: for_rows(sparsify_rows, op, s); break;
    case OP_STREAM:
    case OP_STREAMS:
    case OP_STREAMS_MIX:
    case OP_STREAMS_NEWS:
    case OP_STREAMS_ADD:
    case OP_STREAMS_REST:
    case OP_STREAMS_MEAN: for_rows(stream_rows, op, s); break;
    case OP_CONV: for_rows(conv_rows, op, s); break;
    case OP_DELTA:
    case OP_SSM: state_op(op, s); break;
    case OP_COUNT: break;
    }
}
