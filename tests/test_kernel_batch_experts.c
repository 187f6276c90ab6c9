// The experts' stages of batches on the emulator against plain C: kernels_src/route.cuh, group_experts.cuh,
// experts_sum.cuh.
#include "kernel_reference.h"

#include "runner.h"

#include <math.h>

// ---- what the stages are given ----

static Batch *make_batch(uint32_t n_rows) {
    Batch *b = kernel_memory(sizeof *b);
    *b = (Batch){.n_rows = n_rows};
    return b;
}

static size_t activation_halves(uint32_t max_rows, uint32_t n_cols) {
    return (size_t)CEIL_DIV(n_cols, 128u) * 2 * max_rows * 64;
}

// Written down from the order that products read: column 32 c + 4 t + 2 q + i of 128.
static size_t activation_index(uint32_t max_rows, uint32_t row, uint32_t col) {
    uint32_t c = col % 128 / 32, t = col % 32 / 4, q = col % 4 / 2, i = col % 2;
    uint32_t place = 16 * t + 8 * q + 2 * c + i, sheet = col / 128 * 2 + place / 64;
    uint32_t unit = (place % 64 / 8) ^ (row % 8);
    return ((size_t)sheet * max_rows + row) * 64 + unit * 8 + place % 8;
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
                uint16_t h = alone.normed[activation_index(1, 0, col)];
                different += h != all.normed[activation_index(s->max_rows, r, col)] ||
                             h != normed[activation_index(norm->max_rows, r, col)];
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
            normed[activation_index(s->max_rows, row, col)] = (uint16_t)(row * 977 + col + 1);
    }
    Grouped g = group_rows(s, n_rows, choice, normed);
    check_tiles(s, n, choice, &g);
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t col = 0; col < s->d_model; col++) {
            uint16_t h = g.out[activation_index(s->n_rows, g.slot[i], col)];
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
