// Operations on several copies of the residual stream (AltUp), and sparse activations.
#include "backend/cpu/cpu_ops_internal.h"

#include <math.h>

// Lowers values by their mean and `sparsity` standard deviations: of values that are normally distributed, a
// known share stays above 0 (You et al. 2025, "Spark Transformer").
static void sparsify(const float *in, float *out, uint32_t n, float sparsity) {
    double sum = 0, squares = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += (double)in[i];
    double mean = sum / n;
    for (uint32_t i = 0; i < n; i++)
        squares += ((double)in[i] - mean) * ((double)in[i] - mean);
    float least = (float)(mean + sqrt(squares / n) * (double)sparsity);
    for (uint32_t i = 0; i < n; i++)
        out[i] = in[i] > least ? in[i] - least : 0 * in[i]; // not a number stays that
}

void sparsify_rows(void *context, uint32_t thread, uint32_t from, uint32_t to) {
    (void)thread;
    const RowWork *w = context;
    const Op *op = w->op->op;
    for (uint32_t row = from; row < to; row++)
        sparsify(in_row(w->step, op, 0, row), out_row(w->step, op, row), op->out_width, op->sparsity);
}

static double mean_square(const float *v, uint32_t n) {
    double squares = 0;
    for (uint32_t i = 0; i < n; i++)
        squares += (double)v[i] * (double)v[i];
    return squares / n;
}

// What makes a vector as long as `like`.
static float length_factor(const float *like, const float *v, uint32_t n) {
    const double least = 1e-5; // of the mean square
    return (float)sqrt(mean_square(like, n) / fmax(mean_square(v, n), least));
}

// One row. in: the operation's inputs; width: of a stream.
static void mix_streams(const Op *op, const float *const in[3], float *out, uint32_t width) {
    uint32_t n = op->streams.n;
    for (uint32_t i = 0; i < n; i++) {
        memcpy(out + (uint64_t)i * width, in[0] + (uint64_t)i * width, width * sizeof *out);
        for (uint32_t j = 0; j < n; j++)
            add_scaled(out + (uint64_t)i * width, in[0] + (uint64_t)j * width, in[1][i * n + j], width);
    }
}

static void add_news(const Op *op, const float *const in[3], float *out, uint32_t width) {
    const float *active = in[0] + (uint64_t)op->streams.active * width;
    for (uint32_t i = 0; i < op->streams.n; i++) {
        const float *stream = in[0] + (uint64_t)i * width;
        for (uint32_t k = 0; k < width; k++)
            out[(uint64_t)i * width + k] = stream[k] + (in[1][k] - active[k]) * (in[2][i] + 1);
    }
}

static void add_to_others(const Op *op, const float *const in[3], float *out, uint32_t width) {
    for (uint32_t i = 0; i < op->streams.n; i++) {
        for (uint32_t k = 0; k < width; k++)
            out[(uint64_t)i * width + k] = in[0][(uint64_t)i * width + k] + (i ? in[1][k] : 0);
    }
}

static void make_streams(const Op *op, const float *const in[3], float *out, uint32_t width) {
    memcpy(out, in[0], width * sizeof *out);
    for (uint32_t i = 1; i < op->streams.n; i++) {
        const float *v = in[1] + (uint64_t)(i - 1) * width;
        float factor = length_factor(in[0], v, width);
        for (uint32_t k = 0; k < width; k++)
            out[(uint64_t)i * width + k] = v[k] * factor;
    }
}

static void average_streams(const Op *op, const float *const in[3], float *out, uint32_t width) {
    memcpy(out, in[0], width * sizeof *out);
    for (uint32_t i = 1; i < op->streams.n; i++) {
        const float *v = in[1] + (uint64_t)(i - 1) * width;
        add_scaled(out, v, length_factor(in[0], v, width), width);
    }
    for (uint32_t k = 0; k < width; k++)
        out[k] /= (float)op->streams.n;
}

void stream_rows(void *context, uint32_t thread, uint32_t from, uint32_t to) {
    (void)thread;
    const RowWork *w = context;
    const Op *op = w->op->op;
    for (uint32_t row = from; row < to; row++) {
        const float *in[3] = {NULL};
        float *out = out_row(w->step, op, row);
        for (uint32_t i = 0; i < plan_op_inputs(op->kind); i++)
            in[i] = in_row(w->step, op, i, row);
        uint32_t n = op->streams.n;
        switch (op->kind) {
        case OP_STREAM:
            memcpy(out, in[0] + (uint64_t)op->streams.active * op->out_width, op->out_width * sizeof *out);
            break;
        case OP_STREAMS: make_streams(op, in, out, op->out_width / n); break;
        case OP_STREAMS_MIX: mix_streams(op, in, out, op->out_width / n); break;
        case OP_STREAMS_NEWS: add_news(op, in, out, op->out_width / n); break;
        case OP_STREAMS_ADD: add_to_others(op, in, out, op->out_width / n); break;
        case OP_STREAMS_REST:
            memcpy(out, in[0] + op->out_width / (n - 1), op->out_width * sizeof *out);
            break;
        case OP_STREAMS_MEAN: average_streams(op, in, out, op->out_width); break;
        default: break;
        }
    }
}
