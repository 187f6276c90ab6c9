#include "model_stages.h"

#if WORKER_ORCD_CUDA

#include "backend/cpu/cpu_backend.h"
#include "backend/cuda/cuda_backend.h"
#include "runner.h"

#include <math.h>
#include <stdio.h>

// Of an operation, in prompts and in single rows.
typedef struct {
    double error, norm; // sums of squares over all rows
    double worst;       // of one row
    uint32_t worst_position;
    uint32_t n_rows;
} Errors;

typedef struct {
    const Plan *plan;
    uint32_t n;      // rows of all operations
    uint32_t first;  // row of the reference's step under way
    float **values;  // [n_ops] the reference's, [n][width]; NULL until it is shown
    Errors *errors;  // [n_ops][2]
    bool one_by_one; // the rows under way
    Arena *arena;
} Comparison;

static void remember(void *context, uint32_t op, const float *values, uint32_t n_rows, uint32_t width) {
    Comparison *c = context;
    if (!c->values[op]) c->values[op] = arena_new(c->arena, float, (uint64_t)c->n *width);
    REQUIRE(c->values[op] != NULL && c->first + n_rows <= c->n);
    memcpy(c->values[op] + (uint64_t)c->first * width, values, (uint64_t)n_rows * width * sizeof *values);
}

// The residual stream before an operation, in the reference; NULL before the first. A factor on the stream is
// of the stage that adds to it.
static const float *stream_before(const Comparison *c, uint32_t op, uint32_t row, uint32_t width) {
    if (c->plan->ops[op].kind == OP_SCALE) op--;
    while (op-- > 0) {
        if (c->plan->ops[op].out == ACT_X && c->values[op]) return c->values[op] + (uint64_t)row * width;
    }
    return NULL;
}

static bool compare(void *context, uint32_t op, uint32_t position, float *values, uint32_t width) {
    Comparison *c = context;
    const float *expected = c->values[op] + (uint64_t)position * width;
    bool is_stream = c->plan->ops[op].out == ACT_X;
    const float *before = is_stream ? stream_before(c, op, position, width) : NULL;
    double error = 0, norm = 0;
    for (uint32_t i = 0; i < width; i++) {
        double d = (double)values[i] - (double)expected[i];
        double v = (double)expected[i] - (before ? (double)before[i] : 0);
        error += d * d;
        norm += v * v;
    }
    Errors *e = &c->errors[op * 2 + c->one_by_one];
    e->error += error;
    e->norm += norm;
    e->n_rows++;
    double relative = sqrt(error / norm);
    if (!(relative <= e->worst)) { // also what is no number
        e->worst = relative;
        e->worst_position = position;
    }
    bool goes_on = is_stream || c->plan->ops[op].out == ACT_XS || c->plan->ops[op].out == ACT_XP;
    if (goes_on) memcpy(values, expected, width * sizeof *values);
    return goes_on;
}

static bool report(const Comparison *c, double error_max) {
    static const char *const ways[] = {"prompt", "decode"};
    bool ok = true;
    for (uint32_t i = 0; i < c->plan->n_ops * 2; i++) {
        const Errors *e = &c->errors[i];
        const Op *op = &c->plan->ops[i / 2];
        if (e->n_rows == 0) continue;
        double relative = sqrt(e->error / e->norm);
        bool good = relative < error_max;
        printf(
            "%s  layer %u  operation %3u %-13s relative error %.2e, of the worst row (position %u) %.2e%s\n",
            ways[i % 2], op->layer, i / 2, plan_op_name(op->kind), relative, e->worst_position, e->worst,
            good ? "" : "  <-- departs");
        if (!good && ok)
            FAIL("first to depart: %s, layer %u, operation %u (%s): relative error %g", ways[i % 2],
                 op->layer, i / 2, plan_op_name(op->kind), relative);
        ok = ok && good;
    }
    CHECK(ok);
    return ok;
}

static void run_reference(ModelPair *p, Comparison *c, const int32_t *tokens, uint32_t n_prompt) {
    cpu_backend_observe(p->cpu, remember, c);
    model_begin(p->cpu, 0, &SAMPLER_GREEDY, tokens, c->n);
    if (n_prompt > 0) model_run(p, p->cpu, 0, tokens, 0, n_prompt, false, n_prompt);
    c->first = n_prompt;
    model_run(p, p->cpu, 0, tokens + n_prompt, n_prompt, c->n - n_prompt, false, c->n - n_prompt);
    cpu_backend_observe(p->cpu, NULL, NULL);
}

static bool remember_row(void *context, uint32_t op, uint32_t position, float *values, uint32_t width) {
    Comparison *c = context;
    c->first = position;
    remember(c, op, values, 1, width);
    return false;
}

static Comparison begin(ModelPair *p, uint32_t n) {
    Comparison c = {.plan = p->plan,
                    .n = n,
                    .values = arena_new(&p->arena, float *, p->plan->n_ops),
                    .errors = arena_new(&p->arena, Errors, p->plan->n_ops * 2),
                    .arena = &p->arena};
    REQUIRE(c.values != NULL && c.errors != NULL);
    return c;
}

static void run_prompt(ModelPair *p, Backend *b, CudaObserver *observer, Comparison *c,
                       const int32_t *tokens) {
    model_begin(b, 0, &SAMPLER_GREEDY, tokens, c->n);
    cuda_backend_observe_prompts(b, observer, c);
    model_run(p, b, 0, tokens, 0, c->n, false, 0);
    cuda_backend_observe_prompts(b, NULL, NULL);
}

bool model_stages_compare_prompts(ModelPair *p, Backend *reference, const int32_t *tokens, uint32_t n,
                                  double error_max) {
    Arena all = p->arena;
    Comparison c = begin(p, n);
    run_prompt(p, reference, remember_row, &c, tokens);
    run_prompt(p, p->gpu, compare, &c, tokens);
    p->arena = all;
    return report(&c, error_max);
}

bool model_stages_compare(ModelPair *p, const int32_t *tokens, uint32_t n_prompt, uint32_t n,
                          double error_max) {
    return model_stages_compare_rows(p, tokens, n_prompt, n, 1, error_max);
}

bool model_stages_compare_rows(ModelPair *p, const int32_t *tokens, uint32_t n_prompt, uint32_t n,
                               uint32_t n_together, double error_max) {
    Arena all = p->arena;
    Comparison c = begin(p, n);
    run_reference(p, &c, tokens, n_prompt);
    model_begin(p->gpu, 0, &SAMPLER_GREEDY, tokens, n);
    cuda_backend_observe_prompts(p->gpu, compare, &c);
    if (n_prompt > 0) model_run(p, p->gpu, 0, tokens, 0, n_prompt, false, 0);
    cuda_backend_observe_prompts(p->gpu, NULL, NULL);
    c.one_by_one = true;
    cuda_backend_observe_rows(p->gpu, n_together, compare, &c);
    model_run(p, p->gpu, 0, tokens + n_prompt, n_prompt, n - n_prompt, false, n - n_prompt);
    cuda_backend_observe(p->gpu, NULL, NULL);
    p->arena = all;
    return report(&c, error_max);
}

#endif
