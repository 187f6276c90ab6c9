// The stages of mixtures of experts on the emulator against plain C: kernels_src/*route.cuh, *experts*.cuh,
// expert_choice.cuh, prefill_group.cuh, prefill_gather.cuh.
#include "kernel_reference.h"

#include "base/f16.h"
#include "runner.h"

#include <math.h>

#define EXACT 2e-5   // float32 sums, of what is rounded to 12 bits as the stages round it
#define ROUNDED 2e-3 // what that rounding costs
#define F16 1e-3     // f16 weights and inputs of products

// ---- the reference ----

// The n_used largest, falling, of equal ones the first; and their softmax.
static void reference_choice(const double *logits, uint32_t n_experts, uint32_t n_used, uint32_t *experts,
                             double *weights) {
    double total = 0;
    for (uint32_t i = 0; i < n_used; i++) {
        uint32_t best = n_experts;
        for (uint32_t e = 0; e < n_experts; e++) {
            bool taken = false;
            for (uint32_t j = 0; j < i; j++)
                taken |= experts[j] == e;
            if (!taken && (best == n_experts || logits[e] > logits[best])) best = e;
        }
        experts[i] = best;
        total += weights[i] = exp(logits[best] - logits[experts[0]]);
    }
    for (uint32_t i = 0; i < n_used; i++)
        weights[i] /= total;
}

static double reference_gated(int activation, double gate, double up) {
    if (activation == ACTIVATION_SILU) return gate / (1 + exp(-gate)) * up;
    gate = fmin(gate, 7);
    up = fmax(fmin(up, 7), -7);
    return gate / (1 + exp(-1.702 * gate)) * (up + 1);
}

static double reference_factor(const float *x, uint32_t n, float eps) {
    double squares = 0;
    for (uint32_t i = 0; i < n; i++)
        squares += (double)x[i] * (double)x[i];
    return 1 / sqrt(squares / n + (double)eps);
}

// One expert's matrix of all of them, which lie one after the other.
static TestMatrix matrix_of(const TestMatrix *all, uint32_t n_experts, uint32_t expert) {
    TestMatrix m = *all;
    m.n_rows /= n_experts;
    m.values += (size_t)expert * m.n_rows * m.n_cols;
    return m;
}

// y[i] = act(W_gate h + b, W_up h + b), h as it is given or with the rounding of decoding; times `factor`
// after the product.
static void reference_glu(const TestMatrix w[2], float *const bias[2], uint32_t n_experts, uint32_t expert,
                          const float *h, double factor, bool rounded, int activation, double *y) {
    TestMatrix gate = matrix_of(&w[0], n_experts, expert), up = matrix_of(&w[1], n_experts, expert);
    double *u = kernel_doubles(gate.n_rows);
    reference_matvec(&gate, h, rounded, y);
    reference_matvec(&up, h, rounded, u);
    for (uint32_t i = 0; i < gate.n_rows; i++) {
        uint32_t at = expert * gate.n_rows + i;
        y[i] = reference_gated(activation, y[i] * factor + (double)bias[0][at],
                               u[i] * factor + (double)bias[1][at]);
    }
}

// ---- decode ----

static void run_route(const char *name) {
    const EmulatedStage *s = kernel_stage(name, 90);
    TEST_CASE_LABEL("%s", name);
    TestRandom random = {3};
    uint32_t d = s->d_model, n = s->n_experts;
    TestMatrix w = test_matrix(&random, (Dtype)s->format[0], n, d);
    float *x = test_random_vector(&random, d, 0, 3), *norm = test_random_vector(&random, d, 1, 0.1f);
    float *bias = test_random_vector(&random, n, 0, 1), *logits = test_random_vector(&random, n, NAN, 0);
    RouteArgs args = {DEVICE_ADDRESS(x), DEVICE_ADDRESS(norm), DEVICE_ADDRESS(w.repacked),
                      DEVICE_ADDRESS(bias), DEVICE_ADDRESS(logits)};
    kernel_run(s, &args, sizeof args);
    float *h = kernel_memory(d * sizeof *h);
    double factor = reference_factor(x, d, s->norm_eps), *expected = kernel_doubles(n);
    for (uint32_t i = 0; i < d; i++)
        h[i] = x[i] * norm[i];
    reference_matvec(&w, h, false, expected);
    for (uint32_t e = 0; e < n; e++)
        expected[e] = expected[e] * factor + (double)bias[e];
    kernel_check_error(expected, logits, n, 2e-6);
}

TEST(kernel_route_gives_the_logits) {
    run_route("route_small");
    run_route("route_wide");
}

// Logits of which several are equal and one is -infinity.
static float *random_logits(TestRandom *random, uint32_t n) {
    float *logits = test_random_vector(random, n, 0, 2);
    logits[n - 1] = logits[1] = logits[2] = 5;
    logits[0] = -INFINITY;
    return logits;
}

static double *widened(const float *v, size_t n) {
    double *d = kernel_doubles(n);
    for (size_t i = 0; i < n; i++)
        d[i] = (double)v[i];
    return d;
}

static void run_glu(const char *name, unsigned sm_arch) {
    const EmulatedStage *s = kernel_stage(name, sm_arch);
    TEST_CASE_LABEL("%s sm_%u", name, sm_arch);
    TestRandom random = {5};
    uint32_t d = s->d_model, ff = s->d_ff, n = s->n_experts, experts[16];
    TestMatrix w[2];
    float *bias[2];
    for (int i = 0; i < 2; i++) {
        w[i] = test_matrix(&random, (Dtype)s->format[0], n * ff, d);
        bias[i] = test_random_vector(&random, (size_t)n * ff, 0, 3);
    }
    float *x = test_random_vector(&random, d, 0, 3), *norm = test_random_vector(&random, d, 1, 0.1f);
    float *logits = random_logits(&random, n),
          *out = test_random_vector(&random, (size_t)s->n_used * ff, NAN, 0);
    ExpertsGluArgs args = {DEVICE_ADDRESS(x),
                           DEVICE_ADDRESS(norm),
                           DEVICE_ADDRESS(logits),
                           {DEVICE_ADDRESS(w[0].repacked), DEVICE_ADDRESS(w[1].repacked)},
                           {DEVICE_ADDRESS(bias[0]), DEVICE_ADDRESS(bias[1])},
                           DEVICE_ADDRESS(out)};
    kernel_run(s, &args, sizeof args);
    double weights[16], factor = reference_factor(x, d, s->norm_eps),
                        *expected = kernel_doubles(s->n_used * ff);
    reference_choice(widened(logits, n), n, s->n_used, experts, weights);
    CHECK_INT_EQ(1, experts[0]);
    float *h = kernel_memory(d * sizeof *h);
    for (uint32_t i = 0; i < d; i++)
        h[i] = x[i] * norm[i];
    for (int rounded = 0; rounded < 2; rounded++) {
        for (uint32_t i = 0; i < s->n_used; i++) {
            double *y = expected + i * ff;
            reference_glu(w, bias, n, experts[i], h, factor, rounded, s->activation, y);
            for (uint32_t k = 0; k < ff; k++)
                y[k] *= weights[i];
        }
        kernel_check_error(expected, out, s->n_used * ff, rounded ? EXACT : ROUNDED);
    }
}

TEST(kernel_experts_glu_of_the_chosen) {
    run_glu("experts_glu_ring", 90);
    run_glu("experts_glu_resident", 90);
    run_glu("experts_glu_f16", 90);
    run_glu("experts_glu_ring", 80);
    run_glu("experts_glu_ring", 75);
    run_glu("experts_glu_resident", 75);
}

static void run_down(const char *name, unsigned sm_arch) {
    const EmulatedStage *s = kernel_stage(name, sm_arch);
    TEST_CASE_LABEL("%s sm_%u", name, sm_arch);
    TestRandom random = {6};
    uint32_t d = s->d_model, ff = s->d_ff, n = s->n_experts, experts[16];
    TestMatrix w = test_matrix(&random, (Dtype)s->format[0], n * d, ff);
    float *bias = test_random_vector(&random, (size_t)n * d, 0, 3), *logits = random_logits(&random, n);
    float *in = test_random_vector(&random, (size_t)s->n_used * ff, 0, 1),
          *x = test_random_vector(&random, d, 0, 1);
    double weights[16], *expected = kernel_doubles(d), *y = kernel_doubles(d), *before = widened(x, d);
    ExpertsDownArgs args = {DEVICE_ADDRESS(logits), DEVICE_ADDRESS(in), DEVICE_ADDRESS(w.repacked),
                            DEVICE_ADDRESS(bias), DEVICE_ADDRESS(x)};
    kernel_run(s, &args, sizeof args);
    reference_choice(widened(logits, n), n, s->n_used, experts, weights);
    for (int rounded = 0; rounded < 2; rounded++) {
        memcpy(expected, before, d * sizeof *expected);
        for (uint32_t i = 0; i < s->n_used; i++) {
            TestMatrix m = matrix_of(&w, n, experts[i]);
            reference_matvec(&m, in + i * ff, rounded, y);
            for (uint32_t k = 0; k < d; k++)
                expected[k] += y[k] + weights[i] * (double)bias[experts[i] * d + k];
        }
        kernel_check_error(expected, x, d, rounded ? EXACT : ROUNDED);
    }
}

TEST(kernel_experts_down_of_the_chosen) {
    run_down("experts_down_slices", 90);
    run_down("experts_down_whole", 90);
    run_down("experts_down_f32", 90);
    run_down("experts_down_k", 90);
    run_down("experts_down_pairs", 90);
    run_down("experts_down_slices", 80);
    run_down("experts_down_slices", 75);
}

// Logits that are not numbers choose experts that there are, and what comes of it is not a number.
TEST(kernel_experts_of_logits_that_are_not_numbers) {
    const EmulatedStage *s = kernel_stage("experts_down_k", 90);
    TestRandom random = {6};
    uint32_t d = s->d_model, n = s->n_experts;
    TestMatrix w = test_matrix(&random, (Dtype)s->format[0], n * d, s->d_ff);
    float *bias = test_random_vector(&random, (size_t)n * d, 0, 3),
          *logits = test_random_vector(&random, n, NAN, 0);
    float *in = test_random_vector(&random, (size_t)s->n_used * s->d_ff, NAN, 0),
          *x = test_random_vector(&random, d, 0, 1);
    ExpertsDownArgs args = {DEVICE_ADDRESS(logits), DEVICE_ADDRESS(in), DEVICE_ADDRESS(w.repacked),
                            DEVICE_ADDRESS(bias), DEVICE_ADDRESS(x)};
    for (uint32_t sign = 0; sign < 2; sign++) {
        for (uint32_t e = 0; e < n; e++)
            logits[e] = copysignf(NAN, sign ? -1.0f : 1.0f);
        kernel_run(s, &args, sizeof args);
        CHECK(isnan(x[0]) && isnan(x[d - 1]));
    }
}

// ---- prefill ----

static StepSpan *make_chunk(uint32_t n_rows) {
    StepSpan *c = kernel_memory(sizeof *c);
    *c = (StepSpan){.n_rows = n_rows};
    return c;
}

static void run_prefill_route(const char *name, uint32_t n_rows) {
    const EmulatedStage *s = kernel_stage(name, 90);
    TEST_CASE_LABEL("%s, %u rows", name, n_rows);
    TestRandom random = {n_rows};
    uint32_t d = s->d_model, n = s->n_experts, experts[16];
    TestMatrix w = test_matrix(&random, (Dtype)s->format[0], n, d);
    float *x = test_random_vector(&random, (size_t)n_rows * d, 0, 3),
          *norm = test_random_vector(&random, d, 1, 0.1f);
    float *bias = test_random_vector(&random, n, 0, 0.1f),
          *factors = test_random_vector(&random, n_rows, NAN, 0);
    ExpertRowChoice *choice = kernel_memory(n_rows * s->n_used * sizeof *choice);
    PrefillRouteArgs args = {DEVICE_ADDRESS(make_chunk(n_rows)),
                             DEVICE_ADDRESS(x),
                             DEVICE_ADDRESS(norm),
                             DEVICE_ADDRESS(w.repacked),
                             DEVICE_ADDRESS(bias),
                             DEVICE_ADDRESS(choice),
                             DEVICE_ADDRESS(factors)};
    kernel_run(s, &args, sizeof args);
    float *h = kernel_memory(d * sizeof *h), *actual = kernel_memory(s->n_used * sizeof *actual);
    double *logits = kernel_doubles(n), weights[16];
    for (uint32_t row = 0; row < n_rows; row++) {
        double factor = reference_factor(x + row * d, d, s->norm_eps);
        CHECK(fabs(factor - (double)factors[row]) < 1e-6 * factor);
        for (uint32_t i = 0; i < d; i++)
            h[i] = x[row * d + i] * norm[i];
        reference_matvec(&w, h, false, logits);
        for (uint32_t e = 0; e < n; e++)
            logits[e] = logits[e] * factor + (double)bias[e];
        reference_choice(logits, n, s->n_used, experts, weights);
        for (uint32_t i = 0; i < s->n_used; i++) {
            CHECK_INT_EQ(experts[i], choice[row * s->n_used + i].expert);
            actual[i] = choice[row * s->n_used + i].weight;
        }
        kernel_check_error(weights, actual, s->n_used, 1e-5);
    }
}

TEST(kernel_prefill_route_chooses) {
    run_prefill_route("prefill_route_8", 1);
    run_prefill_route("prefill_route_8", 21);
    run_prefill_route("prefill_route_2", 7);
}

// Random choices, uneven: an expert that nobody chooses, one that all do.
static ExpertRowChoice *random_choices(TestRandom *random, uint32_t n_rows, uint32_t n_experts,
                                       uint32_t n_used) {
    ExpertRowChoice *c = kernel_memory((size_t)n_rows * n_used * sizeof *c);
    for (uint32_t row = 0; row < n_rows; row++) {
        double *logits = kernel_doubles(n_experts), weights[16];
        uint32_t experts[16];
        for (uint32_t e = 0; e < n_experts; e++)
            logits[e] = e == 2 ? -100 : (double)test_random_normal(random) + (e == 4 ? 100 : 0);
        reference_choice(logits, n_experts, n_used, experts, weights);
        for (uint32_t i = 0; i < n_used; i++) {
            c[row * n_used + i] =
                (ExpertRowChoice){experts[n_used - 1 - i], test_random_uniform(random, 0, 1)};
        }
    }
    return c;
}

static void group_rows(StepSpan *chunk, const ExpertRowChoice *choice, uint32_t *slot, ExpertTile *tiles) {
    PrefillGroupArgs args = {DEVICE_ADDRESS(chunk), DEVICE_ADDRESS(choice), DEVICE_ADDRESS(slot),
                             DEVICE_ADDRESS(tiles)};
    kernel_run(kernel_stage("prefill_group", 90), &args, sizeof args);
}

TEST(kernel_prefill_group_orders_rows_by_expert) {
    const EmulatedStage *s = kernel_stage("prefill_group", 90);
    static const uint32_t counts[] = {1, 5, 64, 65, 100, 128};
    for (size_t k = 0; k < COUNT_OF(counts); k++) {
        TEST_CASE_LABEL("%u rows", counts[k]);
        uint32_t n = counts[k] * s->n_used;
        TestRandom random = {counts[k]};
        ExpertRowChoice *choice = random_choices(&random, counts[k], s->n_experts, s->n_used);
        uint32_t *slot = kernel_memory(n * sizeof *slot);
        ExpertTile *tiles = kernel_memory(s->expert_tiles * sizeof *tiles);
        group_rows(make_chunk(counts[k]), choice, slot, tiles);
        uint32_t first = 0, tile = 0;
        for (uint32_t e = 0; e < s->n_experts; e++) {
            uint32_t at = first;
            for (uint32_t i = 0; i < n; i++) {
                if (choice[i].expert == e) CHECK_INT_EQ(at++, slot[i]);
            }
            for (uint32_t from = first; from < at; from += s->tile_tokens, tile++) {
                CHECK_INT_EQ(e, tiles[tile].expert);
                CHECK_INT_EQ(from, tiles[tile].slot);
                CHECK_INT_EQ(at, tiles[tile].end);
            }
            first = (at + 7) / 8 * 8;
        }
        for (; tile < s->expert_tiles; tile++)
            CHECK(tiles[tile].slot >= tiles[tile].end);
    }
}

// All of a layer's experts: what the stages have in common, and the rows.
typedef struct {
    unsigned sm_arch;
    const EmulatedStage *gather, *glu, *down, *sum;
    TestMatrix w[2], w_down;
    float *bias[2], *b_down, *norm, *factor, *x;
    ExpertRowChoice *choice;
    uint32_t n_rows;
} ExpertsCase;

static float *run_experts(const ExpertsCase *c, uint32_t n_rows) {
    uint32_t d = c->gather->d_model, n_used = c->gather->n_used, slots = c->glu->max_rows;
    StepSpan *chunk = make_chunk(n_rows);
    uint32_t *slot = kernel_memory(n_rows * n_used * sizeof *slot);
    ExpertTile *tiles = kernel_memory(c->glu->expert_tiles * sizeof *tiles);
    group_rows(chunk, c->choice, slot, tiles);
    uint16_t *in = kernel_memory(PREFILL_HALVES(slots, d) * 2),
             *f = kernel_memory(PREFILL_HALVES(slots, c->glu->d_ff) * 2);
    float *out = kernel_memory((size_t)slots * d * sizeof *out),
          *x = kernel_memory((size_t)n_rows * d * sizeof *x);
    memcpy(x, c->x, (size_t)n_rows * d * sizeof *x);
    PrefillGatherArgs gather = {DEVICE_ADDRESS(chunk),     DEVICE_ADDRESS(x),    DEVICE_ADDRESS(c->norm),
                                DEVICE_ADDRESS(c->factor), DEVICE_ADDRESS(slot), DEVICE_ADDRESS(in)};
    kernel_run(c->gather, &gather, sizeof gather);
    PrefillExpertsGluArgs glu = {DEVICE_ADDRESS(tiles),
                                 DEVICE_ADDRESS(in),
                                 {DEVICE_ADDRESS(c->w[0].repacked), DEVICE_ADDRESS(c->w[1].repacked)},
                                 {DEVICE_ADDRESS(c->bias[0]), DEVICE_ADDRESS(c->bias[1])},
                                 DEVICE_ADDRESS(f)};
    kernel_run(c->glu, &glu, sizeof glu);
    PrefillExpertsDownArgs down = {DEVICE_ADDRESS(tiles), DEVICE_ADDRESS(f),
                                   DEVICE_ADDRESS(c->w_down.repacked), DEVICE_ADDRESS(c->b_down),
                                   DEVICE_ADDRESS(out)};
    kernel_run(c->down, &down, sizeof down);
    PrefillExpertsSumArgs sum = {DEVICE_ADDRESS(chunk), DEVICE_ADDRESS(c->choice), DEVICE_ADDRESS(slot),
                                 DEVICE_ADDRESS(out), DEVICE_ADDRESS(x)};
    kernel_run(c->sum, &sum, sizeof sum);
    return x;
}

static double *expected_experts(const ExpertsCase *c) {
    uint32_t d = c->gather->d_model, ff = c->glu->d_ff, n_used = c->gather->n_used,
             n_experts = kernel_stage("prefill_group", 90)->n_experts;
    double *expected = widened(c->x, (size_t)c->n_rows * d), *f = kernel_doubles(ff), *y = kernel_doubles(d);
    float *h = kernel_memory(d * sizeof *h), *in = kernel_memory(ff * sizeof *in);
    for (uint32_t row = 0; row < c->n_rows; row++) {
        for (uint32_t i = 0; i < d; i++)
            h[i] = c->x[row * d + i] * c->norm[i];
        for (uint32_t i = 0; i < n_used; i++) {
            const ExpertRowChoice *choice = &c->choice[row * n_used + i];
            reference_glu(c->w, c->bias, n_experts, choice->expert, h, (double)c->factor[row], false,
                          c->glu->activation, f);
            for (uint32_t k = 0; k < ff; k++)
                in[k] = (float)f[k];
            TestMatrix m = matrix_of(&c->w_down, n_experts, choice->expert);
            reference_matvec(&m, in, false, y);
            for (uint32_t k = 0; k < d; k++)
                expected[row * d + k] +=
                    (double)choice->weight * (y[k] + (double)c->b_down[choice->expert * d + k]);
        }
    }
    return expected;
}

static void run_prefill_experts(const char *glu, unsigned sm_arch, uint32_t n_rows) {
    TEST_CASE_LABEL("%s sm_%u, %u rows", glu, sm_arch, n_rows);
    ExpertsCase c = {.gather = kernel_stage("prefill_gather", 90),
                     .glu = kernel_stage(glu, sm_arch),
                     .down = kernel_stage("prefill_experts_down", sm_arch),
                     .sum = kernel_stage("prefill_experts_sum", 90),
                     .n_rows = n_rows};
    uint32_t d = c.gather->d_model, ff = c.glu->d_ff,
             n_experts = kernel_stage("prefill_group", 90)->n_experts;
    TestRandom random = {n_rows};
    for (int i = 0; i < 2; i++) {
        c.w[i] = test_matrix(&random, (Dtype)c.glu->format[0], n_experts * ff, d);
        c.bias[i] = test_random_vector(&random, (size_t)n_experts * ff, 0, 3);
    }
    c.w_down = test_matrix(&random, (Dtype)c.down->format[0], n_experts * d, ff);
    c.b_down = test_random_vector(&random, (size_t)n_experts * d, 0, 3);
    c.norm = test_random_vector(&random, d, 1, 0.1f);
    c.factor = test_random_vector(&random, n_rows, 0.5f, 0.02f);
    c.x = test_random_vector(&random, (size_t)n_rows * d, 0, 2);
    c.choice = random_choices(&random, n_rows, n_experts, c.gather->n_used);
    float *x = run_experts(&c, n_rows);
    kernel_check_error(expected_experts(&c), x, (size_t)n_rows * d, F16);
    // The first rows alone.
    uint32_t fewer = n_rows / 2 + 1;
    CHECK_BYTES_EQ(x, fewer * d * sizeof *x, run_experts(&c, fewer), fewer * d * sizeof *x);
}

TEST_SLOW(kernel_prefill_experts_of_rows, 180) {
    run_prefill_experts("prefill_experts_glu", 90, 1);
    run_prefill_experts("prefill_experts_glu", 90, 70);
    run_prefill_experts("prefill_experts_glu_silu", 90, 9);
    run_prefill_experts("prefill_experts_glu", 80, 66);
    run_prefill_experts("prefill_experts_glu", 75, 9);
}
