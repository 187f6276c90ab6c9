// The experts' stages of batches on the emulator against plain C: kernels_src/route.cuh, group_experts.cuh,
// experts_glu.cuh, experts_down.cuh, experts_sum.cuh.
#include "kernel_reference.h"

#include "base/f16.h"
#include "runner.h"

#include <math.h>
#include <stdio.h>

// ---- what the stages are given ----

static Batch *make_batch(uint32_t n_rows) {
    Batch *b = kernel_memory(sizeof *b);
    *b = (Batch){.n_rows = n_rows};
    return b;
}

static size_t activation_halves(uint32_t max_rows, uint32_t n_cols) {
    return (size_t)CEIL_DIV(n_cols, 128u) * 2 * max_rows * 64;
}

// ---- router ----

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

typedef struct {
    uint32_t n_rows;
    float *x, *norm, *weight, *bias;
    double *logits; // [n_rows][n_experts]
} RouteCase;

typedef struct {
    uint16_t *normed;
    float *logits;
    ExpertRowChoice *choice;
} Routed;

static RouteCase make_route_case(const EmulatedStage *s, uint32_t n_rows) {
    TestRandom random = {n_rows};
    uint32_t d = s->d_model, n = s->n_experts;
    RouteCase c = {n_rows,
                   test_random_vector(&random, (size_t)n_rows * d, 0.2f, 3),
                   test_random_vector(&random, d, 1, 0.1f),
                   test_random_vector(&random, (size_t)n * d, 0, 0.05f),
                   test_random_vector(&random, n, 0, 0.1f),
                   kernel_doubles((size_t)n_rows * n)};
    for (uint32_t r = 0; r < n_rows; r++) {
        const float *x = c.x + (size_t)r * d;
        double squares = 0;
        for (uint32_t i = 0; i < d; i++)
            squares += (double)x[i] * (double)x[i];
        double factor = 1 / sqrt(squares / d + (double)s->norm_eps);
        for (uint32_t e = 0; e < n; e++) {
            double sum = 0;
            for (uint32_t i = 0; i < d; i++)
                sum += (double)x[i] * (double)c.norm[i] * (double)c.weight[(size_t)e * d + i];
            c.logits[r * n + e] = sum * factor + (double)c.bias[e];
        }
    }
    return c;
}

// Rows first … first + n - 1 of the case as a batch.
static Routed run_route(const EmulatedStage *s, const RouteCase *c, uint32_t first, uint32_t n) {
    Routed out = {kernel_memory(activation_halves(s->max_rows, s->d_model) * 2),
                  kernel_memory((size_t)s->max_rows * s->n_experts * sizeof(float)),
                  kernel_memory((size_t)s->max_rows * s->n_used * sizeof(ExpertRowChoice))};
    uint32_t *meetings = kernel_memory(s->max_rows * sizeof *meetings);
    RouteRowsArgs args = {.batch = DEVICE_ADDRESS(make_batch(n)),
                          .x = DEVICE_ADDRESS(c->x + (size_t)first * s->d_model),
                          .norm = DEVICE_ADDRESS(c->norm),
                          .weight = DEVICE_ADDRESS(c->weight),
                          .bias = DEVICE_ADDRESS(c->bias),
                          .normed = DEVICE_ADDRESS(out.normed),
                          .logits = DEVICE_ADDRESS(out.logits),
                          .choice = DEVICE_ADDRESS(out.choice),
                          .meetings = DEVICE_ADDRESS(meetings)};
    for (int launch = 0; launch < 2; launch++) // the second finds the counters as the first left them
        kernel_run(s, &args, sizeof args);
    return out;
}

static void check_choices(const EmulatedStage *s, const RouteCase *c, const Routed *routed) {
    uint32_t n = s->n_experts, experts[16];
    float *actual = kernel_memory(s->n_used * sizeof *actual);
    double weights[16];
    for (uint32_t r = 0; r < c->n_rows; r++) {
        reference_choice(c->logits + r * n, n, s->n_used, experts, weights);
        for (uint32_t i = 0; i < s->n_used; i++) {
            CHECK_INT_EQ(experts[i], routed->choice[r * s->n_used + i].expert);
            actual[i] = routed->choice[r * s->n_used + i].weight;
        }
        kernel_check_error(weights, actual, s->n_used, 1e-5);
    }
}

TEST(kernel_batch_route_chooses) {
    static const struct {
        const char *name;
        uint32_t n_rows;
    } rows[] = {
        {"batch_route_1", 1}, {"batch_route_64", 13}, {"batch_route_256", 1}, {"batch_route_256", 21}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s, %u rows", rows[i].name, rows[i].n_rows);
        const EmulatedStage *s = kernel_stage(rows[i].name, 90);
        RouteCase c = make_route_case(s, rows[i].n_rows);
        Routed routed = run_route(s, &c, 0, c.n_rows);
        kernel_check_error(c.logits, routed.logits, (size_t)c.n_rows * s->n_experts, 2e-6);
        if (s->max_rows > 1) check_choices(s, &c, &routed);
    }
}

// A row's logits and norm, alone and among others, whatever the class.
TEST(kernel_batch_route_has_the_same_bits_in_every_class) {
    const EmulatedStage *one = kernel_stage("batch_route_1", 90), *norm = kernel_stage("norm_rows_1120", 90);
    static const char *const names[] = {"batch_route_64", "batch_route_256"};
    uint32_t n = one->n_experts, d = one->d_model;
    RouteCase c = make_route_case(one, 13);
    uint16_t *normed = kernel_memory(activation_halves(norm->max_rows, d) * 2);
    NormArgs args = {.batch = DEVICE_ADDRESS(make_batch(c.n_rows)),
                     .x = DEVICE_ADDRESS(c.x),
                     .norm = DEVICE_ADDRESS(c.norm),
                     .out = DEVICE_ADDRESS(normed)};
    kernel_run(norm, &args, sizeof args);
    for (size_t k = 0; k < COUNT_OF(names); k++) {
        const EmulatedStage *s = kernel_stage(names[k], 90);
        Routed all = run_route(s, &c, 0, c.n_rows);
        for (uint32_t r = 0; r < c.n_rows; r++) {
            TEST_CASE_LABEL("%s, row %u", names[k], r);
            Routed alone = run_route(one, &c, r, 1);
            CHECK_BYTES_EQ(alone.logits, n * sizeof(float), all.logits + r * n, n * sizeof(float));
            uint32_t different = 0;
            for (uint32_t col = 0; col < d; col++) {
                uint16_t h = alone.normed[kernel_activation_place(1, 0, col)];
                different += h != all.normed[kernel_activation_place(s->max_rows, r, col)] ||
                             h != normed[kernel_activation_place(norm->max_rows, r, col)];
            }
            CHECK_INT_EQ(0, different);
        }
    }
}

// Of equal logits the expert with the lower index comes first.
TEST(kernel_batch_route_breaks_ties) {
    const EmulatedStage *s = kernel_stage("batch_route_64", 90);
    RouteCase c = make_route_case(s, 3);
    uint32_t d = s->d_model;
    memset(c.bias, 0, s->n_experts * sizeof *c.bias);
    for (uint32_t e = 0; e < s->n_experts; e++)
        memcpy(c.weight + (size_t)e * d, c.weight, d * sizeof *c.weight);
    c.bias[7] = 1; // alone the best
    Routed routed = run_route(s, &c, 0, c.n_rows);
    for (uint32_t r = 0; r < c.n_rows; r++) {
        const ExpertRowChoice *choice = routed.choice + r * s->n_used;
        CHECK_INT_EQ(7, choice[0].expert);
        CHECK_INT_EQ(0, choice[1].expert);
        CHECK_INT_EQ(1, choice[2].expert);
        CHECK(choice[1].weight == choice[2].weight && choice[0].weight > choice[1].weight);
    }
}

// ---- rows by expert ----

typedef enum { CHOICES_RANDOM, CHOICES_ALL_ONE, CHOICES_EACH_ITS_OWN } Choices;

// Random ones are uneven: an expert that nobody chooses, one that all do. All one: every row has the same.
static ExpertRowChoice *make_choices(TestRandom *random, Choices kind, uint32_t n_rows, uint32_t n_experts,
                                     uint32_t n_used) {
    ExpertRowChoice *c = kernel_memory((size_t)n_rows * n_used * sizeof *c);
    double *logits = kernel_doubles(n_experts), weights[16];
    uint32_t experts[16];
    for (uint32_t row = 0; row < n_rows; row++) {
        for (uint32_t e = 0; e < n_experts; e++)
            logits[e] = e == 2 ? -100 : (double)test_random_normal(random) + (e == 4 ? 100 : 0);
        reference_choice(logits, n_experts, n_used, experts, weights);
        for (uint32_t i = 0; i < n_used; i++) {
            uint32_t expert = kind == CHOICES_RANDOM    ? experts[n_used - 1 - i]
                              : kind == CHOICES_ALL_ONE ? i
                                                        : (row * n_used + i) % n_experts;
            c[row * n_used + i] = (ExpertRowChoice){expert, test_random_uniform(random, 0, 1)};
        }
    }
    return c;
}

typedef struct {
    uint32_t *slot, *n_tiles;
    ExpertTile *tiles;
    uint16_t *out;
} Grouped;

static Grouped group_rows(const EmulatedStage *s, uint32_t n_rows, const ExpertRowChoice *choice,
                          const uint16_t *normed) {
    Grouped g = {kernel_memory((size_t)n_rows * s->n_used * sizeof *g.slot), kernel_memory(sizeof *g.n_tiles),
                 kernel_memory(s->expert_tiles * sizeof *g.tiles),
                 kernel_memory(activation_halves(s->n_rows, s->d_model) * 2)};
    GroupExpertsArgs args = {.batch = DEVICE_ADDRESS(make_batch(n_rows)),
                             .choice = DEVICE_ADDRESS(choice),
                             .normed = DEVICE_ADDRESS(normed),
                             .slot = DEVICE_ADDRESS(g.slot),
                             .tiles = DEVICE_ADDRESS(g.tiles),
                             .n_tiles = DEVICE_ADDRESS(g.n_tiles),
                             .out = DEVICE_ADDRESS(g.out)};
    memset(g.tiles, 0xFF, s->expert_tiles * sizeof *g.tiles);
    kernel_run(s, &args, sizeof args);
    return g;
}

static void check_tiles(const EmulatedStage *s, uint32_t n, const ExpertRowChoice *choice, const Grouped *g) {
    uint32_t first = 0, tile = 0, wrong = 0;
    for (uint32_t e = 0; e < s->n_experts; e++) {
        uint32_t at = first;
        for (uint32_t i = 0; i < n; i++) {
            if (choice[i].expert == e) wrong += at++ != g->slot[i];
        }
        for (uint32_t from = first; from < at; from += s->tile_tokens, tile++) {
            CHECK_INT_EQ(e, g->tiles[tile].expert);
            CHECK_INT_EQ(from, g->tiles[tile].slot);
            CHECK_INT_EQ(at, g->tiles[tile].end);
        }
        first = (at + 7) / 8 * 8;
    }
    CHECK_INT_EQ(0, wrong);
    CHECK_INT_EQ(tile, *g->n_tiles);
    CHECK(first <= s->n_rows && tile <= s->expert_tiles);
    for (; tile < s->expert_tiles; tile++)
        CHECK(g->tiles[tile].slot >= g->tiles[tile].end);
}

static void run_group(const char *name, uint32_t n_rows, Choices kind) {
    const EmulatedStage *s = kernel_stage(name, 90);
    TEST_CASE_LABEL("%s, %u rows, choices %d", name, n_rows, kind);
    TestRandom random = {n_rows};
    uint32_t n = n_rows * s->n_used, wrong = 0;
    ExpertRowChoice *choice = make_choices(&random, kind, n_rows, s->n_experts, s->n_used);
    uint16_t *normed = kernel_memory(activation_halves(s->max_rows, s->d_model) * 2);
    for (uint32_t row = 0; row < n_rows; row++) {
        for (uint32_t col = 0; col < s->d_model; col++)
            normed[kernel_activation_place(s->max_rows, row, col)] = (uint16_t)(row * 977 + col + 1);
    }
    Grouped g = group_rows(s, n_rows, choice, normed);
    check_tiles(s, n, choice, &g);
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t col = 0; col < s->d_model; col++) {
            uint16_t h = g.out[kernel_activation_place(s->n_rows, g.slot[i], col)];
            wrong += h != (uint16_t)(i / s->n_used * 977 + col + 1);
        }
    }
    CHECK_INT_EQ(0, wrong);
}

TEST(kernel_batch_group_orders_rows_by_expert) {
    static const uint32_t small[] = {1, 2, 5, 31, 64}, wide[] = {3, 129, 1000, 1024};
    for (size_t k = 0; k < COUNT_OF(small); k++) {
        for (Choices kind = CHOICES_RANDOM; kind <= CHOICES_EACH_ITS_OWN; kind++)
            run_group("batch_group_small", small[k], kind);
    }
    for (size_t k = 0; k < COUNT_OF(wide); k++)
        run_group("batch_group_wide", wide[k], CHOICES_RANDOM);
    run_group("batch_group_wide", 1024, CHOICES_ALL_ONE);
}

// ---- sum ----

TEST(kernel_batch_experts_sum_adds_in_the_order_of_choices) {
    const EmulatedStage *s = kernel_stage("batch_experts_sum", 90);
    uint32_t n_rows = 5, d = s->d_model, n_used = s->n_used;
    for (int with_slots = 0; with_slots < 2; with_slots++) {
        TEST_CASE_LABEL("%s", with_slots ? "slots" : "slots in the order of rows");
        TestRandom random = {5};
        ExpertRowChoice *choice = make_choices(&random, CHOICES_RANDOM, n_rows, 8, n_used);
        uint32_t *slot = kernel_memory(n_rows * n_used * sizeof *slot);
        float *in = test_random_vector(&random, (size_t)40 * d, 0, 1),
              *x = test_random_vector(&random, (size_t)n_rows * d, 0, 1),
              *expected = kernel_memory(n_rows * d * sizeof *expected);
        for (uint32_t i = 0; i < n_rows * n_used; i++)
            slot[i] = with_slots ? i * 7 % 40 : i;
        for (uint32_t i = 0; i < n_rows * d; i++) {
            float sum = 0;
            for (uint32_t k = 0; k < n_used; k++) {
                uint32_t at = i / d * n_used + k;
                sum = fmaf(choice[at].weight, in[slot[at] * d + i % d], sum);
            }
            expected[i] = x[i] + sum;
        }
        ExpertsSumArgs args = {.batch = DEVICE_ADDRESS(make_batch(n_rows)),
                               .choice = DEVICE_ADDRESS(choice),
                               .slot = with_slots ? DEVICE_ADDRESS(slot) : 0,
                               .in = DEVICE_ADDRESS(in),
                               .x = DEVICE_ADDRESS(x)};
        kernel_run(s, &args, sizeof args);
        CHECK_BYTES_EQ(expected, n_rows * d * sizeof *expected, x, n_rows * d * sizeof *x);
    }
}

// ---- a layer's experts ----

enum { DISTINCT = 5, DISTINCT_USED_MAX = 16 }; // matrices; the experts take turns

// Gate, up and down of all experts in tiles, and as values of the distinct ones.
typedef struct {
    uint32_t d, ff, n_experts, n_used;
    int activation;
    uint8_t *tiles[3];
    float *values[3]; // [DISTINCT][rows][columns]
    float *bias[3];   // [n_experts][rows], or NULL
} Experts;

static void make_matrices(Experts *x, TestRandom *random, int which, Dtype dtype) {
    uint32_t n_rows = which < 2 ? x->ff : x->d, n_cols = which < 2 ? x->d : x->ff;
    size_t size = layout_matrix_bytes((int)dtype, n_rows, n_cols);
    x->tiles[which] = kernel_memory(size * x->n_experts);
    x->values[which] = kernel_memory((size_t)DISTINCT * n_rows * n_cols * sizeof(float));
    for (uint32_t i = 0; i < DISTINCT; i++) {
        TestMatrix m = test_matrix(random, dtype, n_rows, n_cols);
        const uint8_t *tiles = test_matrix_tiles(&m, 0);
        memcpy(x->values[which] + (size_t)i * n_rows * n_cols, test_tile_weights(&m, tiles),
               (size_t)n_rows * n_cols * sizeof(float));
        for (uint32_t e = i; e < x->n_experts; e += DISTINCT)
            memcpy(x->tiles[which] + e * size, tiles, size);
    }
}

static Experts make_experts(const EmulatedStage *glu, const EmulatedStage *down) {
    TestRandom random = {glu->n_experts};
    Experts x = {.d = glu->d_model,
                 .ff = glu->d_ff,
                 .n_experts = glu->n_experts,
                 .n_used = glu->n_used,
                 .activation = glu->activation};
    for (int i = 0; i < 3; i++) {
        make_matrices(&x, &random, i, (Dtype)(i < 2 ? glu->format[i] : down->format[0]));
        if (glu->has_bias)
            x.bias[i] = test_random_vector(&random, (size_t)x.n_experts * (i < 2 ? x.ff : x.d), 0, 1);
    }
    return x;
}

static double reference_gated(int activation, double gate, double up) {
    if (activation == ACTIVATION_SILU) return gate / (1 + exp(-gate)) * up;
    gate = fmin(gate, 7);
    up = fmax(fmin(up, 7), -7);
    return gate / (1 + exp(-1.702 * gate)) * (up + 1);
}

// y[rows] = W in + b of one expert.
static void reference_product(const Experts *x, int which, uint32_t expert, const double *in, double *y) {
    uint32_t n_rows = which < 2 ? x->ff : x->d, n_cols = which < 2 ? x->d : x->ff;
    const float *w = x->values[which] + (size_t)(expert % DISTINCT) * n_rows * n_cols;
    for (uint32_t r = 0; r < n_rows; r++) {
        y[r] = x->bias[which] ? (double)x->bias[which][expert * n_rows + r] : 0;
        for (uint32_t c = 0; c < n_cols; c++)
            y[r] += (double)w[(size_t)r * n_cols + c] * in[c];
    }
}

// out += what the row's experts give.
static void reference_experts(const Experts *x, const double *in, const uint32_t *experts,
                              const double *weights, double *out) {
    double *gate = kernel_doubles(x->ff), *up = kernel_doubles(x->ff), *y = kernel_doubles(x->d);
    for (uint32_t i = 0; i < x->n_used; i++) {
        reference_product(x, 0, experts[i], in, gate);
        reference_product(x, 1, experts[i], in, up);
        for (uint32_t k = 0; k < x->ff; k++)
            gate[k] = reference_gated(x->activation, gate[k], up[k]);
        reference_product(x, 2, experts[i], gate, y);
        for (uint32_t k = 0; k < x->d; k++)
            out[k] += weights[i] * y[k];
    }
}

static ExpertsArgs experts_args(const Experts *x, uint32_t n_rows, bool down) {
    ExpertsArgs a = {.product.batch = DEVICE_ADDRESS(make_batch(n_rows))};
    for (int i = 0; i < (down ? 1 : 2); i++) {
        a.product.weight[i] = DEVICE_ADDRESS(x->tiles[down ? 2 : i]);
        a.product.bias[i] = DEVICE_ADDRESS(x->bias[down ? 2 : i]);
    }
    return a;
}

// Of a shared expert that one row's stages take along.
typedef struct {
    const Experts *matrices;
    const float *share;
    uint16_t *f; // what its gate and up leave; NULL: behind those of the others, where down reads it
} Shared;

// Few rows: x += their experts. `normed` are activations of the stages' class. shared: or NULL.
static void run_few_with(const EmulatedStage *glu, const EmulatedStage *down, const Experts *e,
                         uint32_t n_rows, const uint16_t *normed, const float *logits, const Shared *shared,
                         float *x) {
    uint32_t touched = MIN(glu->max_rows * e->n_used, e->n_experts), bands = CEIL_DIV(e->d, 16u);
    uint32_t more = shared ? 1 : 0;
    size_t f_halves = activation_halves(glu->max_rows, e->ff);
    uint16_t *f = kernel_memory((touched + more) * f_halves * 2);
    float *out = kernel_memory((size_t)(glu->max_rows * e->n_used + more) * e->d * sizeof *out);
    uint32_t *arrivals = kernel_memory(bands * sizeof *arrivals);
    ExpertsArgs a = experts_args(e, n_rows, false), b = experts_args(e, n_rows, true);
    a.logits = b.logits = DEVICE_ADDRESS(logits);
    a.product.in = DEVICE_ADDRESS(normed);
    a.product.out_activations = b.product.in = DEVICE_ADDRESS(f);
    b.product.out = DEVICE_ADDRESS(out);
    b.x = DEVICE_ADDRESS(x);
    b.arrivals = DEVICE_ADDRESS(arrivals);
    if (shared) {
        a.shared[0] = DEVICE_ADDRESS(shared->matrices->tiles[0]);
        a.shared[1] = DEVICE_ADDRESS(shared->matrices->tiles[1]);
        a.shared_out = DEVICE_ADDRESS(shared->f ? shared->f : f + touched * f_halves);
        b.shared[0] = DEVICE_ADDRESS(shared->matrices->tiles[2]);
        b.product.share = DEVICE_ADDRESS(shared->share);
    }
    kernel_run(glu, &a, sizeof a);
    kernel_run(down, &b, sizeof b);
    for (uint32_t i = 0; i < bands; i++)
        CHECK_INT_EQ(0, arrivals[i]);
}

static void run_few(const EmulatedStage *glu, const EmulatedStage *down, const Experts *e, uint32_t n_rows,
                    const uint16_t *normed, const float *logits, float *x) {
    run_few_with(glu, down, e, n_rows, normed, logits, NULL, x);
}

// What many rows take besides.
typedef struct {
    const EmulatedStage *group, *glu, *down, *sum;
} ManyStages;

static void run_many(const ManyStages *s, const Experts *e, uint32_t n_rows, const uint16_t *normed,
                     const ExpertRowChoice *choice, float *x) {
    Grouped g = group_rows(s->group, n_rows, choice, normed);
    // A row a slot; tiles of eight slots have a buffer each, which is as large together.
    uint16_t *f = kernel_memory(activation_halves(s->glu->n_rows, e->ff) * 2);
    float *out = kernel_memory((size_t)s->glu->n_rows * e->d * sizeof *out);
    ExpertsArgs a = experts_args(e, n_rows, false), b = experts_args(e, n_rows, true);
    a.tiles = b.tiles = DEVICE_ADDRESS(g.tiles);
    a.n_tiles = b.n_tiles = DEVICE_ADDRESS(g.n_tiles);
    a.product.in = DEVICE_ADDRESS(g.out);
    a.product.out_activations = b.product.in = DEVICE_ADDRESS(f);
    b.product.out = DEVICE_ADDRESS(out);
    kernel_run(s->glu, &a, sizeof a);
    kernel_run(s->down, &b, sizeof b);
    ExpertsSumArgs sum = {.batch = DEVICE_ADDRESS(make_batch(n_rows)),
                          .choice = DEVICE_ADDRESS(choice),
                          .slot = DEVICE_ADDRESS(g.slot),
                          .in = DEVICE_ADDRESS(out),
                          .x = DEVICE_ADDRESS(x)};
    kernel_run(s->sum, &sum, sizeof sum);
}

// ---- a whole layer, in every class ----

// Stages of a class; `many` has none for few rows.
typedef struct {
    const EmulatedStage *route, *glu, *down;
    ManyStages many;
} Class;

static Class layer_class(uint32_t max_rows, unsigned glu_arch, unsigned down_arch) {
    char name[4][32];
    snprintf(name[0], sizeof name[0], "moe_route_%u", max_rows > 8 ? 64 : max_rows);
    snprintf(name[1], sizeof name[1], "moe_glu_%u", max_rows);
    snprintf(name[2], sizeof name[2], "moe_down_%u", max_rows);
    snprintf(name[3], sizeof name[3], "moe_group_%u", max_rows);
    Class c = {
        kernel_stage(name[0], 90), kernel_stage(name[1], glu_arch), kernel_stage(name[2], down_arch), {0}};
    if (max_rows <= 8) return c;
    c.many = (ManyStages){kernel_stage(name[3], 90), c.glu, c.down, kernel_stage("moe_sum_64", 90)};
    return c;
}

// x += the experts of rows first … first + n - 1.
static float *run_layer(const Class *class, const RouteCase *c, const Experts *e, uint32_t first,
                        uint32_t n) {
    Routed r = run_route(class->route, c, first, n);
    float *x = kernel_memory((size_t)n * e->d * sizeof *x);
    memcpy(x, c->x + (size_t)first * e->d, (size_t)n * e->d * sizeof *x);
    if (class->many.group) run_many(&class->many, e, n, r.normed, r.choice, x);
    else run_few(class->glu, class->down, e, n, r.normed, r.logits, x);
    return x;
}

static void check_layer(const RouteCase *c, const Experts *e, float eps, uint32_t n, const float *x) {
    double *expected = kernel_doubles((size_t)n * e->d), *h = kernel_doubles(e->d),
           weights[DISTINCT_USED_MAX];
    uint32_t experts[DISTINCT_USED_MAX];
    for (uint32_t r = 0; r < n; r++) {
        const float *row = c->x + (size_t)r * e->d;
        double squares = 0;
        for (uint32_t k = 0; k < e->d; k++)
            squares += (double)row[k] * (double)row[k];
        for (uint32_t k = 0; k < e->d; k++) {
            h[k] = (double)row[k] * (double)c->norm[k] / sqrt(squares / e->d + (double)eps);
            expected[r * e->d + k] = (double)row[k];
        }
        reference_choice(c->logits + r * e->n_experts, e->n_experts, e->n_used, experts, weights);
        reference_experts(e, h, experts, weights, expected + r * e->d);
    }
    kernel_check_error(expected, x, (size_t)n * e->d, 1e-3);
}

// Rows of different kinds: 0 … 10 random, 11 to 13 all with one expert far in front.
static RouteCase make_layer_case(const EmulatedStage *route) {
    RouteCase c = make_route_case(route, 14);
    uint32_t d = route->d_model;
    for (uint32_t r = 11; r < c.n_rows; r++) // the same direction, and so the same experts
        for (uint32_t i = 0; i < d; i++)
            c.x[r * d + i] = c.x[11 * d + i] * (float)(r - 10);
    for (uint32_t r = 12; r < c.n_rows; r++)
        memcpy(c.logits + r * route->n_experts, c.logits + 11 * route->n_experts,
               route->n_experts * sizeof *c.logits);
    return c;
}

// Runs of rows of the case as batches of a class: each row as it is alone.
static void check_class(const Class *class, const Class *one, const RouteCase *c, const Experts *e,
                        const uint32_t runs[][2], size_t n_runs) {
    size_t row_bytes = e->d * sizeof(float);
    for (size_t i = 0; i < n_runs; i++) {
        uint32_t first = runs[i][0], n = runs[i][1];
        float *x = run_layer(class, c, e, first, n);
        for (uint32_t r = 0; r < n; r++) {
            TEST_CASE_LABEL("%u rows at most, row %u of %u to %u", class->route->max_rows, first + r, first,
                            first + n - 1);
            CHECK_BYTES_EQ(run_layer(one, c, e, first + r, 1), row_bytes, x + r * e->d, row_bytes);
        }
        if (first == 0) check_layer(c, e, one->route->norm_eps, n, x);
    }
}

TEST_SLOW(kernel_batch_experts_have_the_same_bits_in_every_class, 120) {
    Class one = layer_class(1, 90, 90), few = layer_class(8, 90, 90), eights = layer_class(32, 90, 90),
          many = layer_class(64, 90, 90);
    RouteCase c = make_layer_case(one.route);
    Experts e = make_experts(one.glu, one.down);
    static const uint32_t few_runs[][2] = {{0, 8}, {3, 5}, {11, 3}, {6, 8}},
                          many_runs[][2] = {{0, 14}, {4, 1}};
    Class pairs = one;
    pairs.down = kernel_stage("moe_down_1_pairs", 90);
    check_class(&pairs, &one, &c, &e, (const uint32_t[][2]){{0, 1}, {5, 1}, {13, 1}}, 3);
    check_class(&few, &one, &c, &e, few_runs, COUNT_OF(few_runs));
    check_class(&eights, &one, &c, &e, many_runs, COUNT_OF(many_runs));
    check_class(&many, &one, &c, &e, many_runs, COUNT_OF(many_runs));
}

TEST_SLOW(kernel_batch_experts_on_older_gpus, 120) {
    Class one = layer_class(1, 90, 90);
    Class older[] = {layer_class(1, 75, 80), layer_class(8, 80, 75), layer_class(64, 80, 80)};
    RouteCase c = make_layer_case(one.route);
    Experts e = make_experts(one.glu, one.down);
    for (size_t i = 0; i < COUNT_OF(older); i++) {
        const uint32_t runs[][2] = {{0, MIN(older[i].route->max_rows, c.n_rows)}};
        check_class(&older[i], &one, &c, &e, runs, 1);
    }
}

// ---- a shared expert ----

// Its own two stages around those of the others: x += all of them. `f` gets what its gate and up leave.
static void run_shared_apart(const Class *one, const EmulatedStage *glu, const EmulatedStage *down,
                             const Experts *e, const Shared *shared, const Routed *r, uint16_t *f, float *x) {
    ProductArgs a = {
        .batch = DEVICE_ADDRESS(make_batch(1)),
        .in = DEVICE_ADDRESS(r->normed),
        .weight = {DEVICE_ADDRESS(shared->matrices->tiles[0]), DEVICE_ADDRESS(shared->matrices->tiles[1])},
        .out_activations = DEVICE_ADDRESS(f)};
    kernel_run(glu, &a, sizeof a);
    run_few(one->glu, one->down, e, 1, r->normed, r->logits, x);
    if (!down) return;
    ProductArgs b = {.batch = a.batch,
                     .in = DEVICE_ADDRESS(f),
                     .weight = {DEVICE_ADDRESS(shared->matrices->tiles[2])},
                     .share = DEVICE_ADDRESS(shared->share),
                     .out = DEVICE_ADDRESS(x)};
    kernel_run(down, &b, sizeof b);
}

// One row's stages that take a shared expert along, to the bits of those that do not.
TEST_SLOW(kernel_batch_experts_take_a_shared_one_along, 120) {
    static const struct {
        const char *glu, *down, *glu_apart, *down_apart; // NULL: `down` is without it
        unsigned arch;
    } rows[] = {{"moe_shared_glu_1", "moe_shared_down_1", "shared_glu_1", "shared_output_1", 90},
                {"moe_shared_glu_1", "moe_shared_down_1_pairs", "shared_glu_1", "shared_output_1", 90},
                {"moe_shared_glu_1_ways", "moe_down_1", "shared_glu_1_ways", NULL, 90},
                {"moe_shared_glu_1", "moe_shared_down_1", "shared_glu_1", "shared_output_1", 80}};
    Class one = layer_class(1, 90, 90);
    RouteCase c = make_layer_case(one.route);
    Experts e = make_experts(one.glu, one.down);
    memset(e.bias, 0, sizeof e.bias); // none
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const EmulatedStage *glu_apart = kernel_stage(rows[i].glu_apart, 90),
                            *down_apart = rows[i].down_apart ? kernel_stage(rows[i].down_apart, 90) : NULL;
        TestRandom random = {17};
        Experts matrices = {.d = e.d, .ff = glu_apart->d_ff, .n_experts = 1, .n_used = 1};
        for (int k = 0; k < (down_apart ? 3 : 2); k++)
            make_matrices(&matrices, &random, k, (Dtype)one.glu->format[0]);
        size_t x_bytes = e.d * sizeof(float), f_bytes = activation_halves(1, matrices.ff) * 2;
        float share = 0.37f;
        for (uint32_t row = 0; row < c.n_rows; row += 6) {
            TEST_CASE_LABEL("%s, %s, sm %u, row %u", rows[i].glu, rows[i].down, rows[i].arch, row);
            Routed r = run_route(one.route, &c, row, 1);
            float *apart = kernel_memory(x_bytes), *along = kernel_memory(x_bytes);
            memcpy(apart, c.x + row * e.d, x_bytes);
            memcpy(along, c.x + row * e.d, x_bytes);
            uint16_t *f_apart = kernel_memory(f_bytes), *f_along = kernel_memory(f_bytes);
            Shared shared = {&matrices, &share, down_apart ? NULL : f_along};
            run_shared_apart(&one, glu_apart, down_apart, &e, &shared, &r, f_apart, apart);
            run_few_with(kernel_stage(rows[i].glu, rows[i].arch), kernel_stage(rows[i].down, rows[i].arch),
                         &e, 1, r.normed, r.logits, &shared, along);
            CHECK_BYTES_EQ(apart, x_bytes, along, x_bytes);
            if (!down_apart) CHECK_BYTES_EQ(f_apart, f_bytes, f_along, f_bytes);
        }
    }
}

// ---- other formats ----

// Rows' logits of a kind (Choices), as few rows choose by.
static float *make_logits(TestRandom *random, Choices kind, uint32_t n_rows, uint32_t n_experts,
                          uint32_t n_used) {
    float *logits = test_random_vector(random, (size_t)n_rows * n_experts, 0, 1);
    for (uint32_t r = 0; r < n_rows; r++) {
        for (uint32_t i = 0; kind != CHOICES_RANDOM && i < n_used; i++) {
            uint32_t expert = kind == CHOICES_ALL_ONE ? i : (r * n_used + i) % n_experts;
            logits[r * n_experts + expert] += 10;
        }
    }
    return logits;
}

typedef struct {
    const Experts *e;
    const uint16_t *h; // [n_rows][d]
    const float *logits;
    uint32_t n_rows;
    double *expected; // [n_rows][d], of x = 0
    ExpertRowChoice *choice;
} FormatsCase;

static FormatsCase make_formats_case(const Experts *e, Choices kind, uint32_t n_rows) {
    TestRandom random = {n_rows + (uint32_t)kind};
    uint16_t *h = kernel_memory((size_t)n_rows * e->d * sizeof *h);
    FormatsCase c = {e,
                     h,
                     make_logits(&random, kind, n_rows, e->n_experts, e->n_used),
                     n_rows,
                     kernel_doubles((size_t)n_rows * e->d),
                     kernel_memory((size_t)n_rows * e->n_used * sizeof(ExpertRowChoice))};
    double *in = kernel_doubles(e->d), *logits = kernel_doubles(e->n_experts), weights[DISTINCT_USED_MAX];
    uint32_t experts[DISTINCT_USED_MAX];
    for (uint32_t r = 0; r < n_rows; r++) {
        for (uint32_t k = 0; k < e->d; k++) {
            h[r * e->d + k] = f16_from_f32(test_random_normal(&random));
            in[k] = (double)f32_from_f16(h[r * e->d + k]);
        }
        for (uint32_t i = 0; i < e->n_experts; i++)
            logits[i] = (double)c.logits[r * e->n_experts + i];
        reference_choice(logits, e->n_experts, e->n_used, experts, weights);
        reference_experts(e, in, experts, weights, c.expected + (size_t)r * e->d);
        for (uint32_t i = 0; i < e->n_used; i++)
            c.choice[r * e->n_used + i] = (ExpertRowChoice){experts[i], (float)weights[i]};
    }
    return c;
}

static uint16_t *as_activations(const FormatsCase *c, uint32_t max_rows) {
    uint16_t *out = kernel_memory(activation_halves(max_rows, c->e->d) * 2);
    for (uint32_t r = 0; r < c->n_rows; r++) {
        for (uint32_t k = 0; k < c->e->d; k++)
            out[kernel_activation_place(max_rows, r, k)] = c->h[r * c->e->d + k];
    }
    return out;
}

static void run_formats(const char *glu, const char *down, uint32_t n_rows) {
    const EmulatedStage *g = kernel_stage(glu, 90), *d = kernel_stage(down, 90);
    Experts e = make_experts(g, d);
    for (Choices kind = CHOICES_RANDOM; kind <= CHOICES_EACH_ITS_OWN; kind++) {
        TEST_CASE_LABEL("%s, %u rows, choices %d", glu, n_rows, kind);
        FormatsCase c = make_formats_case(&e, kind, n_rows);
        float *x = kernel_memory((size_t)n_rows * e.d * sizeof *x);
        run_few(g, d, &e, n_rows, as_activations(&c, g->max_rows), c.logits, x);
        kernel_check_error(c.expected, x, (size_t)n_rows * e.d, 1e-3);
    }
}

TEST_SLOW(kernel_batch_experts_of_other_formats, 120) {
    run_formats("moe_k_glu_8", "moe_k_down_8", 8);
    run_formats("moe_mixed_glu_8", "moe_f16_down_8", 3);
}

TEST_SLOW(kernel_batch_experts_of_many_rows, 120) {
    ManyStages s = {kernel_stage("moe_k_group_64", 90), kernel_stage("moe_k_glu_64", 90),
                    kernel_stage("moe_k_down_64", 90), kernel_stage("moe_k_sum_64", 90)};
    Experts e = make_experts(s.glu, s.down);
    for (Choices kind = CHOICES_RANDOM; kind <= CHOICES_EACH_ITS_OWN; kind++) {
        uint32_t n_rows = kind == CHOICES_ALL_ONE ? 35 : 11; // 35: two tiles of an expert
        TEST_CASE_LABEL("%u rows, choices %d", n_rows, kind);
        FormatsCase c = make_formats_case(&e, kind, n_rows);
        float *x = kernel_memory((size_t)n_rows * e.d * sizeof *x);
        run_many(&s, &e, n_rows, as_activations(&c, s.group->max_rows), c.choice, x);
        kernel_check_error(c.expected, x, (size_t)n_rows * e.d, 1e-3);
    }
}

// Logits that are not numbers choose experts that there are, and what comes of it is not a number.
TEST(kernel_batch_experts_of_logits_that_are_not_numbers) {
    const EmulatedStage *g = kernel_stage("moe_mixed_glu_8", 90), *d = kernel_stage("moe_f16_down_8", 90);
    Experts e = make_experts(g, d);
    FormatsCase c = make_formats_case(&e, CHOICES_RANDOM, 2);
    float *logits = test_random_vector(&(TestRandom){1}, (size_t)2 * e.n_experts, NAN, 0),
          *x = kernel_memory((size_t)2 * e.d * sizeof *x);
    memcpy(logits + e.n_experts, c.logits + e.n_experts, e.n_experts * sizeof *logits);
    run_few(g, d, &e, 2, as_activations(&c, g->max_rows), logits, x);
    CHECK(isnan(x[0]) && isnan(x[e.d - 1]));
    kernel_check_error(c.expected + e.d, x + e.d, e.d, 1e-3); // the other row is as it would be
}
