// The prefill stages on the emulator against plain C: kernels_src/prefill_*.cuh. Weights and inputs of
// products are f16 on the tensor cores, so results agree with the reference (double, inputs as given) to F16;
// a row's bits must be the same whatever rows are beside it and wherever its step begins.
#include "kernel_reference.h"

#include "base/f16.h"
#include "runner.h"

#include <math.h>

#define F16 1e-3

// Rows of a step, and the pages of its sequence: backwards, page 0 belongs to someone else.
static StepSpan *make_chunk(uint32_t n_rows, uint32_t position) {
    StepSpan *c = kernel_memory(sizeof *c);
    uint32_t n_pages = (position + n_rows + 15) / 16;
    uint32_t *pages = kernel_memory(n_pages * sizeof *pages);
    for (uint32_t i = 0; i < n_pages; i++)
        pages[i] = n_pages - i;
    *c = (StepSpan){.n_rows = n_rows, .position = position, .pages = DEVICE_ADDRESS(pages)};
    return c;
}

static const uint32_t *chunk_pages(const StepSpan *c) {
    return (const uint32_t *)(uintptr_t)c->pages;
}

// ---- activation buffers ----

// Where layout.h says that a value is.
static size_t activation_place(uint32_t max_rows, uint32_t row, uint32_t col) {
    uint32_t c = col % 128 / 32, h = col % 32 / 16, w = col % 16 / 4, i = col % 4 / 2, t = col % 2;
    uint32_t place = 32 * w + 16 * h + 8 * t + 2 * c + i, unit = place % 64 / 8 ^ row % 8;
    return ((size_t)(col / 128 * 2 + place / 64) * max_rows + row) * 64 + unit * 8 + place % 8;
}

static uint16_t *activations(uint32_t max_rows, uint32_t n_cols) {
    return kernel_memory(PREFILL_HALVES(max_rows, n_cols) * 2);
}

static float activation(const uint16_t *a, uint32_t max_rows, uint32_t row, uint32_t col) {
    return f32_from_f16(a[activation_place(max_rows, row, col)]);
}

// Random rows, rounded to f16, in a buffer; the rows behind them are not numbers. values: [n_rows][n_cols].
static uint16_t *random_activations(TestRandom *r, uint32_t max_rows, uint32_t n_rows, uint32_t n_cols,
                                    float **values) {
    uint16_t *out = activations(max_rows, n_cols);
    *values = kernel_memory((size_t)n_rows * n_cols * sizeof(float));
    for (uint32_t row = 0; row < max_rows; row++) {
        for (uint32_t col = 0; col < n_cols; col++) {
            uint16_t v = row < n_rows ? f16_from_f32(test_random_normal(r)) : 0x7E00;
            out[activation_place(max_rows, row, col)] = v;
            if (row < n_rows) (*values)[(size_t)row * n_cols + col] = f32_from_f16(v);
        }
    }
    return out;
}

TEST(kernel_prefill_activations_have_a_place_each) {
    enum { ROWS = 64, COLS = 256 };
    uint8_t *taken = kernel_memory(ROWS * COLS);
    for (uint32_t i = 0; i < ROWS * COLS; i++) {
        size_t at = activation_place(ROWS, i / COLS, i % COLS);
        REQUIRE(at < ROWS * COLS);
        CHECK_INT_EQ(0, taken[at]++);
    }
}

// ---- embedding, turns, norm ----

static void run_embed(const char *name) {
    const EmulatedStage *s = kernel_stage(name, 90);
    TEST_CASE_LABEL("%s", name);
    enum { POSITION = 9 };
    static const int32_t tokens[] = {4, 0, 3, 3, 1, 2, 0};
    TestRandom random = {5};
    TestMatrix w = test_matrix(&random, (Dtype)s->embed_format, 5, s->d_model);
    StepSpan *c = make_chunk(COUNT_OF(tokens), POSITION);
    float *learned = test_random_vector(&random, (POSITION + COUNT_OF(tokens)) * s->d_model, 0, 1);
    c->tokens = DEVICE_ADDRESS(tokens);
    float *x = test_random_vector(&random, COUNT_OF(tokens) * s->d_model, NAN, 0);
    PrefillEmbedArgs args = {DEVICE_ADDRESS(c), DEVICE_ADDRESS(w.repacked), DEVICE_ADDRESS(learned),
                             DEVICE_ADDRESS(x)};
    kernel_run(s, &args, sizeof args);
    for (uint32_t i = 0; i < COUNT_OF(tokens) * s->d_model; i++) {
        float expected =
            w.values[(uint32_t)tokens[i / s->d_model] * s->d_model + i % s->d_model] * s->embed_scale;
        if (s->learned) expected += learned[POSITION * s->d_model + i];
        if (!CHECK(expected == x[i])) break;
    }
}

TEST(kernel_prefill_embeds_tokens) {
    run_embed("prefill_embed");
    run_embed("prefill_embed_learned");
}

TEST(kernel_prefill_turns_positions) {
    const EmulatedStage *s = kernel_stage("prefill_rope", 90);
    uint32_t n_rows = 65, pairs = s->rope_dims / 2;
    TestRandom random = {6};
    StepSpan *c = make_chunk(n_rows, 1234);
    float *inv_freq = test_random_vector(&random, pairs, 0.4f, 0.1f),
          *rope = test_random_vector(&random, n_rows * pairs * 2, NAN, 0);
    PrefillRopeArgs args = {DEVICE_ADDRESS(c), DEVICE_ADDRESS(inv_freq), DEVICE_ADDRESS(rope)};
    kernel_run(s, &args, sizeof args);
    double *expected = kernel_doubles(n_rows * pairs * 2);
    for (uint32_t i = 0; i < n_rows * pairs; i++) {
        double angle = (double)((float)(1234 + i / pairs) * inv_freq[i % pairs]);
        expected[2 * i] = cos(angle) * (double)s->rope_scale;
        expected[2 * i + 1] = sin(angle) * (double)s->rope_scale;
    }
    kernel_check_error(expected, rope, n_rows * pairs * 2, 1e-6);
}

static void run_norm(const char *name) {
    const EmulatedStage *s = kernel_stage(name, 90);
    static const uint32_t rows[] = {1, 7, 64, 65};
    for (size_t k = 0; k < COUNT_OF(rows); k++) {
        TEST_CASE_LABEL("%s, %u rows", name, rows[k]);
        uint32_t n = rows[k] * s->d_model;
        TestRandom random = {rows[k]};
        float *x = test_random_vector(&random, n, 2, 4),
              *w = test_random_vector(&random, s->d_model, 1, 0.2f),
              *b = test_random_vector(&random, s->d_model, 0, 0.5f);
        uint16_t *out = activations(s->max_rows, s->d_model);
        StepSpan *c = make_chunk(rows[k], 0);
        PrefillNormArgs args = {DEVICE_ADDRESS(c), DEVICE_ADDRESS(x), DEVICE_ADDRESS(w), DEVICE_ADDRESS(b),
                                DEVICE_ADDRESS(out)};
        kernel_run(s, &args, sizeof args);
        double *expected = kernel_doubles(n), squares = 0, mean = 0;
        float *actual = kernel_memory(n * sizeof *actual);
        for (uint32_t i = 0; i < n; i++) {
            uint32_t row = i / s->d_model, col = i % s->d_model;
            if (col == 0) mean = squares = 0;
            for (uint32_t j = 0; s->layer_norm && col == 0 && j < s->d_model; j++)
                mean += (double)x[i + j] / s->d_model;
            for (uint32_t j = 0; col == 0 && j < s->d_model; j++)
                squares += ((double)x[i + j] - mean) * ((double)x[i + j] - mean);
            expected[i] =
                ((double)x[i] - mean) / sqrt(squares / s->d_model + (double)s->norm_eps) * (double)w[col];
            if (s->layer_norm) expected[i] += (double)b[col];
            actual[i] = activation(out, s->max_rows, row, col);
        }
        kernel_check_error(expected, actual, n, F16);
        uint32_t written = 0;
        for (size_t i = 0; i < PREFILL_HALVES(s->max_rows, s->d_model); i++)
            written += out[i] != 0;
        CHECK(written <= n && written > n * 9 / 10); // nothing behind the rows, nor past the columns
    }
}

TEST(kernel_prefill_norms_rows) {
    run_norm("prefill_norm");
    run_norm("prefill_norm_layer");
}

TEST(kernel_prefill_post_norm_joins_the_residual_stream) {
    const EmulatedStage *s = kernel_stage("prefill_post_norm", 90);
    enum { ROWS = 7 };
    TestRandom random = {8};
    uint32_t n = ROWS * s->d_model;
    float *t = test_random_vector(&random, n, 0, 7), *x = test_random_vector(&random, n, 0, 1);
    float *w = test_random_vector(&random, s->d_model, 1, 0.3f);
    double *expected = kernel_doubles(n);
    for (uint32_t row = 0; row < ROWS; row++) {
        double squares = 0;
        for (uint32_t i = row * s->d_model; i < (row + 1) * s->d_model; i++)
            squares += (double)t[i] * (double)t[i];
        double root = sqrt(squares / s->d_model + (double)s->norm_eps);
        for (uint32_t i = row * s->d_model; i < (row + 1) * s->d_model; i++)
            expected[i] = (double)x[i] + (double)t[i] / root * (double)w[i % s->d_model];
    }
    PrefillPostNormArgs args = {DEVICE_ADDRESS(make_chunk(ROWS, 0)), DEVICE_ADDRESS(t), DEVICE_ADDRESS(w),
                                DEVICE_ADDRESS(x)};
    kernel_run(s, &args, sizeof args);
    kernel_check_error(expected, x, n, 1e-6);
}

// ---- residual output ----

static float *run_output(const EmulatedStage *s, const TestMatrix *w, uint16_t *in, const float *x_before,
                         const float *bias, uint32_t n_rows) {
    size_t n = (size_t)n_rows * s->n_rows;
    float *x = kernel_memory(n * sizeof *x);
    memcpy(x, x_before, n * sizeof *x);
    PrefillOutputArgs args = {DEVICE_ADDRESS(make_chunk(n_rows, 0)), DEVICE_ADDRESS(in),
                              DEVICE_ADDRESS(w->repacked), DEVICE_ADDRESS(bias), DEVICE_ADDRESS(x)};
    kernel_run(s, &args, sizeof args);
    return x;
}

static void check_output(const char *name, unsigned sm_arch, uint32_t n_rows, bool from_glu) {
    const EmulatedStage *s = kernel_stage(name, sm_arch);
    TEST_CASE_LABEL("%s sm_%u, %u rows", name, sm_arch, n_rows);
    TestRandom random = {n_rows};
    TestMatrix w = test_matrix(&random, (Dtype)s->format[0], s->n_rows, s->n_cols);
    float *values, *before = test_random_vector(&random, (size_t)n_rows * s->n_rows, 0, 1);
    float *bias = test_random_vector(&random, s->n_rows, 0, 1);
    uint16_t *in = random_activations(&random, s->max_rows, n_rows, s->n_cols, &values);
    float *x = run_output(s, &w, in, before, bias, n_rows);
    double *expected = kernel_doubles((size_t)n_rows * s->n_rows);
    for (uint32_t t = 0; t < n_rows; t++) {
        double *y = expected + t * s->n_rows;
        reference_matvec(&w, values + t * s->n_cols, false, y);
        for (uint32_t i = 0; i < s->n_rows; i++) {
            y[i] = y[i] * (from_glu ? 16 : 1) + (double)bias[i];
            if (!s->raw) y[i] += (double)before[t * s->n_rows + i];
        }
    }
    kernel_check_error(expected, x, (size_t)n_rows * s->n_rows, F16);
    // The first rows alone.
    uint32_t fewer = n_rows / 2 + 1;
    float *alone = run_output(s, &w, in, before, bias, fewer);
    CHECK_BYTES_EQ(x, fewer * s->n_rows * sizeof *x, alone, fewer * s->n_rows * sizeof *x);
}

TEST_SLOW(kernel_prefill_output_multiplies_every_format, 120) {
    for (Dtype d = 0; d < DTYPE_COUNT; d++)
        check_output(kernel_stage_of("prefill_output", d, 90)->name, 90, 7, false);
    check_output("prefill_output_q4_k", 90, 1, false);
    check_output("prefill_output_q4_k", 90, 64, false);
    check_output("prefill_output_q6_k", 90, 65, false);
    check_output("prefill_output_wide", 90, 65, true);
    check_output("prefill_output_256", 90, 130, false);
    check_output("prefill_output_raw", 90, 65, true);
}

TEST_SLOW(kernel_prefill_output_on_older_gpus, 120) {
    check_output("prefill_output_q4_k", 80, 65, false);
    check_output("prefill_output_q6_k", 75, 7, false);
    check_output("prefill_output_mxfp4", 75, 7, false);
    check_output("prefill_output_wide", 80, 65, true);
}

// Column by column, since an infinite weight spoils its row's sum: rows of one scale each.
TEST(kernel_prefill_mxfp4_is_exact_or_tells) {
    enum { SMALLEST = 104, LARGEST = 133, FIRST = 80 }; // exponents
    const EmulatedStage *s = kernel_stage("prefill_output_mxfp4", 90);
    TestRandom random = {1};
    TestMatrix w = test_matrix(&random, DTYPE_MXFP4, s->n_rows, s->n_cols);
    uint32_t row_bytes = s->n_cols / 32 * 17, n_tokens = s->max_rows;
    for (uint32_t i = 0; i < s->n_rows * row_bytes; i += 17)
        w.file[i] = (uint8_t)(FIRST + i / row_bytes);
    test_matrix_update(&w);
    uint16_t *in = activations(s->max_rows, s->n_cols);
    for (uint32_t t = 0; t < n_tokens; t++)
        in[activation_place(s->max_rows, t, t * 11)] = 0x3C00; // one
    float *zeros = kernel_memory((size_t)n_tokens * s->n_rows * sizeof *zeros);
    float *x = run_output(s, &w, in, zeros, zeros, n_tokens);
    for (uint32_t i = 0; i < n_tokens * s->n_rows; i++) {
        uint32_t row = i % s->n_rows, exponent = FIRST + row;
        float weight = w.values[(size_t)row * s->n_cols + i / s->n_rows * 11];
        TEST_CASE_LABEL("exponent %u, weight %g", exponent, (double)weight);
        if (exponent < SMALLEST) CHECK(x[i] == 0);
        else if (exponent <= LARGEST) CHECK(x[i] == weight);
        else CHECK(!isfinite(x[i]));
    }
}

// ---- queries, keys, values ----

typedef struct {
    TestMatrix w[3];
    float *bias[3], *values, *rope;
    uint32_t n_rows, position;
} QkvCase;

static double *expected_part(const EmulatedStage *s, const QkvCase *c, int part, uint32_t row) {
    const TestMatrix *w = &c->w[part];
    double *y = kernel_doubles(w->n_rows);
    reference_matvec(w, c->values + row * s->d_model, false, y);
    for (uint32_t i = 0; i < w->n_rows; i++)
        y[i] += (double)c->bias[part][i];
    for (uint32_t h = 0; part < 2 && h < w->n_rows; h += s->head_dim) {
        for (uint32_t i = 0; i < s->rope_dims / 2; i++) {
            double *a = &y[h + (s->rope_halves ? i : 2 * i)];
            double *b = &y[h + (s->rope_halves ? i + s->rope_dims / 2 : 2 * i + 1)];
            const float *turn = c->rope + (row * s->rope_dims / 2 + i) * 2;
            double u = *a * (double)turn[0] - *b * (double)turn[1],
                   v = *a * (double)turn[1] + *b * (double)turn[0];
            *a = u, *b = v;
        }
    }
    for (uint32_t i = 0; part == 0 && i < w->n_rows; i++)
        y[i] *= (double)s->score_scale * 1.4426950408889634;
    return y;
}

static void check_raw(const EmulatedStage *s, const QkvCase *c, const float *raw) {
    uint32_t width = (s->n_heads + 2 * s->n_kv_heads) * s->head_dim;
    double *expected = kernel_doubles((size_t)c->n_rows * width);
    for (uint32_t row = 0; row < c->n_rows; row++) {
        double *to = expected + row * width;
        for (int part = 0; part < 3; to += c->w[part++].n_rows) {
            reference_matvec(&c->w[part], c->values + row * s->d_model, false, to);
            for (uint32_t i = 0; i < c->w[part].n_rows; i++)
                to[i] += (double)c->bias[part][i];
        }
    }
    kernel_check_error(expected, raw, (size_t)c->n_rows * width, F16);
}

static void check_qkv(const EmulatedStage *s, const QkvCase *c, const StepSpan *chunk, const uint16_t *q,
                      const uint16_t *kv) {
    uint32_t d = s->head_dim;
    for (int part = 0; part < 3; part++) {
        uint32_t n = c->w[part].n_rows;
        double *expected = kernel_doubles((size_t)c->n_rows * n);
        float *actual = kernel_memory((size_t)c->n_rows * n * sizeof *actual);
        for (uint32_t row = 0; row < c->n_rows; row++) {
            memcpy(expected + row * n, expected_part(s, c, part, row), n * sizeof *expected);
            uint32_t position = c->position + row, page = chunk_pages(chunk)[position / 16],
                     slot = position % 16;
            for (uint32_t i = 0; i < n; i++) {
                const uint16_t *tile =
                    kv + (size_t)page * KV_PAGE_HALVES(s->n_kv_heads, d) + (i / d * 2 + (part == 2)) * 16 * d;
                actual[row * n + i] = f32_from_f16(part == 0   ? q[row * n + i]
                                                   : part == 1 ? tile[slot * d + i % d]
                                                               : tile[i % d * 16 + slot]);
            }
        }
        kernel_check_error(expected, actual, (size_t)c->n_rows * n, F16);
    }
}

static void run_qkv(const char *name, unsigned sm_arch, uint32_t n_rows, uint32_t position) {
    const EmulatedStage *s = kernel_stage(name, sm_arch);
    TEST_CASE_LABEL("%s sm_%u, %u rows from %u", name, sm_arch, n_rows, position);
    TestRandom random = {n_rows};
    QkvCase c = {.n_rows = n_rows, .position = position};
    uint16_t *in = random_activations(&random, s->max_rows, n_rows, s->d_model, &c.values);
    uint32_t heads[3] = {s->n_heads, s->n_kv_heads, s->n_kv_heads};
    c.rope = test_random_vector(&random, (size_t)n_rows * s->rope_dims, 0, 1);
    StepSpan *chunk = make_chunk(n_rows, position);
    size_t kv_halves =
        ((position + n_rows + 15) / 16 + 1) * (size_t)KV_PAGE_HALVES(s->n_kv_heads, s->head_dim);
    uint16_t *q = kernel_memory((size_t)n_rows * s->n_heads * s->head_dim * 2),
             *kv = kernel_memory(kv_halves * 2);
    for (size_t i = 0; i < kv_halves; i++)
        kv[i] = 0x7BCD;
    PrefillQkvArgs args = {.span = DEVICE_ADDRESS(chunk),
                           .in = DEVICE_ADDRESS(in),
                           .rope = DEVICE_ADDRESS(c.rope),
                           .q = DEVICE_ADDRESS(q),
                           .kv = DEVICE_ADDRESS(kv)};
    for (int part = 0; part < 3; part++) {
        c.w[part] = test_matrix(&random, (Dtype)s->format[part], heads[part] * s->head_dim, s->d_model);
        c.bias[part] = test_random_vector(&random, c.w[part].n_rows, 0, 1);
        args.weight[part] = DEVICE_ADDRESS(c.w[part].repacked);
        args.bias[part] = DEVICE_ADDRESS(c.bias[part]);
    }
    uint32_t width = (s->n_heads + 2 * s->n_kv_heads) * s->head_dim;
    float *raw = test_random_vector(&random, (size_t)n_rows * width, NAN, 0);
    args.raw = DEVICE_ADDRESS(raw);
    kernel_run(s, &args, sizeof args);
    if (s->raw) {
        check_raw(s, &c, raw);
        return;
    }
    check_qkv(s, &c, chunk, q, kv);
    size_t touched = 0;
    for (size_t i = 0; i < kv_halves; i++)
        touched += kv[i] != 0x7BCD;
    CHECK_U64_EQ((size_t)n_rows * s->n_kv_heads * s->head_dim * 2, touched);
}

TEST_SLOW(kernel_prefill_qkv_writes_queries_and_cache, 60) {
    run_qkv("prefill_qkv_halves", 90, 65, 13);
    run_qkv("prefill_qkv_halves", 90, 1, 16);
    run_qkv("prefill_qkv_halves", 80, 7, 0);
    run_qkv("prefill_qkv_halves", 75, 64, 3);
    run_qkv("prefill_qkv_pairs", 90, 7, 30);
    run_qkv("prefill_qkv_gpt2", 90, 65, 5);
    run_qkv("prefill_qkv_raw", 90, 65, 5);
}

// ---- heads with norms of their own ----

static void run_heads(const char *name, uint32_t n_rows, uint32_t position) {
    const EmulatedStage *s = kernel_stage(name, 90);
    TEST_CASE_LABEL("%s, %u rows from %u", name, n_rows, position);
    TestRandom random = {n_rows};
    uint32_t d = s->head_dim, heads = s->n_heads + 2 * s->n_kv_heads, n = n_rows * heads * d;
    float *raw = test_random_vector(&random, n, 0, 3);
    float *norm[2] = {test_random_vector(&random, d, 1, 0.3f), test_random_vector(&random, d, 1, 0.3f)};
    float *rope = test_random_vector(&random, (size_t)n_rows * s->rope_dims, 0, 1);
    StepSpan *chunk = make_chunk(n_rows, position);
    uint32_t n_pages = (position + n_rows + 15) / 16 + 1;
    uint16_t *q = kernel_memory((size_t)n_rows * s->n_heads * d * 2),
             *kv = kernel_memory((size_t)n_pages * KV_PAGE_HALVES(s->n_kv_heads, d) * 2);
    PrefillHeadsArgs args = {.span = DEVICE_ADDRESS(chunk),
                             .raw = DEVICE_ADDRESS(raw),
                             .norm = {DEVICE_ADDRESS(norm[0]), DEVICE_ADDRESS(norm[1])},
                             .rope = DEVICE_ADDRESS(rope),
                             .q = DEVICE_ADDRESS(q),
                             .kv = DEVICE_ADDRESS(kv)};
    kernel_run(s, &args, sizeof args);
    double *expected = kernel_doubles(n);
    float *actual = kernel_memory(n * sizeof *actual);
    for (uint32_t i = 0; i < n_rows * heads; i++) {
        uint32_t row = i / heads, h = i % heads;
        uint32_t part = h < s->n_heads ? 0 : h < s->n_heads + s->n_kv_heads ? 1 : 2;
        uint32_t kv_head = part ? (h - s->n_heads) % s->n_kv_heads : 0, at = position + row;
        double *y = expected + i * d, squares = 0;
        for (uint32_t k = 0; k < d; k++)
            squares += (double)raw[i * d + k] * (double)raw[i * d + k];
        for (uint32_t k = 0; k < d; k++) {
            y[k] = (double)raw[i * d + k];
            if (part < 2) y[k] *= (double)norm[part][k] / sqrt(squares / d + (double)s->norm_eps);
            if (part == 0) y[k] *= (double)s->score_scale * 1.4426950408889634;
        }
        for (uint32_t k = 0; part < 2 && k < s->rope_dims / 2; k++) {
            double *a = &y[s->rope_halves ? k : 2 * k],
                   *b = &y[s->rope_halves ? k + s->rope_dims / 2 : 2 * k + 1];
            const float *turn = rope + (row * s->rope_dims / 2 + k) * 2;
            double u = *a * (double)turn[0] - *b * (double)turn[1],
                   v = *a * (double)turn[1] + *b * (double)turn[0];
            *a = u, *b = v;
        }
        const uint16_t *tile = kv + (size_t)chunk_pages(chunk)[at / 16] * KV_PAGE_HALVES(s->n_kv_heads, d) +
                               (kv_head * 2 + (part == 2)) * 16 * d;
        for (uint32_t k = 0; k < d; k++) {
            actual[i * d + k] = f32_from_f16(part == 0   ? q[(row * s->n_heads + h) * d + k]
                                             : part == 1 ? tile[at % 16 * d + k]
                                                         : tile[k * 16 + at % 16]);
        }
    }
    kernel_check_error(expected, actual, n, F16);
}

TEST(kernel_prefill_heads_are_normed_and_turned) {
    run_heads("prefill_heads_80", 37, 9);
    run_heads("prefill_heads_128", 1, 16);
    run_heads("prefill_heads_128", 64, 0);
}

// ---- gate and up ----

static double reference_activation(int fn, double v) {
    if (fn == ACTIVATION_SILU) return v / (1 + exp(-v));
    if (fn == ACTIVATION_GELU_TANH)
        return 0.5 * v * (1 + tanh(0.7978845608028654 * (v + 0.044715 * v * v * v)));
    return 0.5 * v * (1 + erf(v * 0.7071067811865476));
}

static void run_glu(const char *name, unsigned sm_arch, uint32_t n_rows) {
    const EmulatedStage *s = kernel_stage(name, sm_arch);
    TEST_CASE_LABEL("%s sm_%u, %u rows", name, sm_arch, n_rows);
    TestRandom random = {n_rows};
    float *values;
    uint16_t *in = random_activations(&random, s->max_rows, n_rows, s->d_model, &values);
    TestMatrix gate = test_matrix(&random, (Dtype)s->format[0], s->d_ff, s->d_model);
    TestMatrix up = test_matrix(&random, (Dtype)s->format[1], s->d_ff, s->d_model);
    uint16_t *out = activations(s->max_rows, s->d_ff);
    float *bias[2] = {test_random_vector(&random, s->d_ff, 0, s->has_bias ? 1 : 0),
                      test_random_vector(&random, s->d_ff, 0, s->has_bias ? 1 : 0)};
    PrefillGluArgs args = {.span = DEVICE_ADDRESS(make_chunk(n_rows, 0)),
                           .in = DEVICE_ADDRESS(in),
                           .weight = {DEVICE_ADDRESS(gate.repacked), DEVICE_ADDRESS(up.repacked)},
                           .bias = {DEVICE_ADDRESS(bias[0]), DEVICE_ADDRESS(bias[1])},
                           .out = DEVICE_ADDRESS(out)};
    kernel_run(s, &args, sizeof args);
    double *expected = kernel_doubles((size_t)n_rows * s->d_ff), *u = kernel_doubles(s->d_ff);
    float *actual = kernel_memory((size_t)n_rows * s->d_ff * sizeof *actual);
    for (uint32_t t = 0; t < n_rows; t++) {
        double *g = expected + t * s->d_ff;
        reference_matvec(&gate, values + t * s->d_model, false, g);
        reference_matvec(&up, values + t * s->d_model, false, u);
        for (uint32_t i = 0; i < s->d_ff; i++) {
            g[i] = reference_activation(s->activation, g[i] + (double)bias[0][i]) / 16;
            if (!s->ungated) g[i] *= u[i] + (double)bias[1][i];
            actual[t * s->d_ff + i] = activation(out, s->max_rows, t, i);
        }
    }
    kernel_check_error(expected, actual, (size_t)n_rows * s->d_ff, F16);
    uint32_t behind = 0;
    for (uint32_t i = 0; i < s->d_ff && n_rows < s->max_rows; i++) {
        behind += activation(out, s->max_rows, n_rows, i) != 0;
    }
    CHECK_INT_EQ(0, behind);
}

TEST_SLOW(kernel_prefill_glu_activates_and_multiplies, 120) {
    run_glu("prefill_glu_q4_k", 90, 1);
    run_glu("prefill_glu_q4_k", 90, 65);
    run_glu("prefill_glu_q4_k", 80, 7);
    run_glu("prefill_glu_q4_k", 75, 7);
    run_glu("prefill_glu_f16", 90, 64);
    run_glu("prefill_glu_bias", 90, 7);
    run_glu("prefill_glu_ungated", 90, 65);
    run_glu("prefill_glu_ungated", 75, 7);
    run_glu("prefill_glu_formats", 90, 65);
    run_glu("prefill_glu_formats", 75, 7);
}

// ---- attention ----

typedef struct {
    const EmulatedStage *s;
    uint32_t n_tokens;
    const uint16_t *q, *kv; // of all tokens, page i at i + 1 backwards (make_chunk)
    const float *sinks;     // or NULL
} AttentionCase;

static float cached(const AttentionCase *c, uint32_t page, uint32_t slot, uint32_t head, bool value,
                    uint32_t dim) {
    uint32_t d = c->s->head_dim;
    const uint16_t *tile =
        c->kv + (size_t)page * KV_PAGE_HALVES(c->s->n_kv_heads, d) + (head * 2 + value) * 16 * d;
    return f32_from_f16(value ? tile[dim * 16 + slot] : tile[slot * d + dim]);
}

static void reference_row(const AttentionCase *c, uint32_t position, uint32_t head, double *out) {
    const EmulatedStage *s = c->s;
    uint32_t n_pages = (c->n_tokens + 15) / 16, kv_head = head / (s->n_heads / s->n_kv_heads);
    uint32_t first = s->window && position + 1 > s->window ? position + 1 - s->window : 0;
    double total = c->sinks ? exp((double)c->sinks[head]) : 0, *scores = kernel_doubles(position + 1);
    for (uint32_t t = first; t <= position; t++) {
        for (uint32_t d = 0; d < s->head_dim; d++) {
            double q = (double)f32_from_f16(c->q[((size_t)position * s->n_heads + head) * s->head_dim + d]);
            scores[t] += q * (double)cached(c, n_pages - t / 16, t % 16, kv_head, false, d);
        }
        scores[t] = reference_capped(scores[t], (double)s->soft_cap * 1.4426950408889634);
        total += scores[t] = exp2(scores[t]);
    }
    for (uint32_t d = 0; d < s->head_dim; d++) {
        double sum = 0;
        for (uint32_t t = first; t <= position; t++) {
            sum += scores[t] * (double)cached(c, n_pages - t / 16, t % 16, kv_head, true, d);
        }
        out[d] = sum / total;
    }
}

// Rows [position, position + n_rows) as one step, into out [n_tokens][heads * dim].
static void attention_step(const AttentionCase *c, uint32_t position, uint32_t n_rows, float *out) {
    const EmulatedStage *s = c->s;
    uint32_t n = s->n_heads * s->head_dim, all_pages = (c->n_tokens + 15) / 16;
    StepSpan *chunk = make_chunk(n_rows, position);
    uint32_t *pages = kernel_memory(all_pages * sizeof *pages);
    for (uint32_t i = 0; i < all_pages; i++)
        pages[i] = all_pages - i;
    chunk->pages = DEVICE_ADDRESS(pages);
    // What lies after the last token must not matter, whatever it is.
    size_t kv_halves = (size_t)(all_pages + 1) * KV_PAGE_HALVES(s->n_kv_heads, s->head_dim);
    uint16_t *kv = kernel_memory(kv_halves * 2);
    memcpy(kv, c->kv, kv_halves * 2);
    for (uint32_t t = position + n_rows; t < all_pages * 16; t++) {
        uint16_t *page = kv + (size_t)pages[t / 16] * KV_PAGE_HALVES(s->n_kv_heads, s->head_dim);
        for (uint32_t i = 0; i < s->n_kv_heads * s->head_dim; i++) {
            uint32_t head = i / s->head_dim, d = i % s->head_dim;
            page[head * 2 * 16 * s->head_dim + t % 16 * s->head_dim + d] = 0x7E00; // not a number
            page[(head * 2 + 1) * 16 * s->head_dim + d * 16 + t % 16] = i % 2 ? 0x7C00 : 0x7E00; // infinity
        }
    }
    uint16_t *q = kernel_memory((size_t)n_rows * n * 2), *result = activations(s->max_rows, n);
    memcpy(q, c->q + (size_t)position * n, (size_t)n_rows * n * 2);
    PrefillAttentionArgs args = {DEVICE_ADDRESS(chunk), DEVICE_ADDRESS(q), DEVICE_ADDRESS(kv),
                                 DEVICE_ADDRESS(c->sinks), DEVICE_ADDRESS(result)};
    kernel_run(s, &args, sizeof args);
    for (uint32_t i = 0; i < n_rows * n; i++) {
        out[(size_t)position * n + i] = activation(result, s->max_rows, i / n, i % n);
    }
}

// A text in steps of several sizes: right, and the same bits however it is cut.
static void run_attention(const char *name, unsigned sm_arch, uint32_t n_tokens, uint32_t step,
                          uint32_t other_step) {
    const EmulatedStage *s = kernel_stage(name, sm_arch);
    TEST_CASE_LABEL("%s sm_%u, %u tokens in steps of %u and %u", name, sm_arch, n_tokens, step, other_step);
    TestRandom random = {n_tokens};
    uint32_t n = s->n_heads * s->head_dim;
    size_t n_q = (size_t)n_tokens * n;
    size_t n_kv = (size_t)((n_tokens + 15) / 16 + 1) * KV_PAGE_HALVES(s->n_kv_heads, s->head_dim);
    uint16_t *q = kernel_memory(n_q * 2), *kv = kernel_memory(n_kv * 2);
    for (size_t i = 0; i < n_q; i++)
        q[i] = f16_from_f32(0.2f * test_random_normal(&random));
    for (size_t i = 0; i < n_kv; i++)
        kv[i] = f16_from_f32(test_random_normal(&random));
    float *sinks = s->has_sinks ? test_random_vector(&random, s->n_heads, 0, 2) : NULL;
    AttentionCase c = {s, n_tokens, q, kv, sinks};
    float *out = test_random_vector(&random, n_q, NAN, 0), *again = test_random_vector(&random, n_q, NAN, 0);
    for (uint32_t p = 0; p < n_tokens; p += step)
        attention_step(&c, p, MIN(step, n_tokens - p), out);
    for (uint32_t p = 0; p < n_tokens; p += other_step)
        attention_step(&c, p, MIN(other_step, n_tokens - p), again);
    double *expected = kernel_doubles(n_q);
    for (uint32_t t = 0; t < n_tokens; t++) {
        for (uint32_t h = 0; h < s->n_heads; h++)
            reference_row(&c, t, h, expected + (size_t)t * n + h * s->head_dim);
    }
    kernel_check_error(expected, out, n_q, F16);
    CHECK_BYTES_EQ(out, n_q * sizeof *out, again, n_q * sizeof *again);
}

TEST_SLOW(kernel_prefill_attention_of_steps, 300) {
    run_attention("prefill_attention_7x64", 90, 130, 65, 100);
    run_attention("prefill_attention_7x64", 75, 70, 7, 64);
    run_attention("prefill_attention_7x64", 90, 1, 1, 1);
    run_attention("prefill_attention_2x128", 90, 150, 64, 37);
    run_attention("prefill_attention_2x128", 80, 66, 65, 1);
    run_attention("prefill_attention_window", 90, 170, 128, 50);
    run_attention("prefill_attention_2x256", 90, 70, 64, 33);
    run_attention("prefill_attention_2x256", 75, 70, 64, 33);
    run_attention("prefill_attention_5x80", 90, 70, 64, 33);
}
