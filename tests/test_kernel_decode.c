// The decode stages on the emulator against plain C: kernels_src/decode_*.cuh, repack.cuh, sample_greedy.cuh.
//
// Each result is compared twice: with a reference whose activations are rounded to 12 bits as the stages do
// it (the difference is then float32 summation, EXACT), and with one that rounds nothing (ROUNDED: what that
// costs).
#include "kernel_reference.h"

#include "base/f16.h"
#include "runner.h"

#include <math.h>
#include <stdio.h>

#define EXACT 2e-5
#define ROUNDED 1e-3

// x / rms * w; what the norm stages do, but for the place of the root: here it is before the rounding, there
// after.
static float *reference_norm(const float *x, const float *w, uint32_t n, float eps, double *factor) {
    float *out = kernel_memory(n * sizeof *out);
    double squares = 0;
    for (uint32_t i = 0; i < n; i++)
        squares += (double)x[i] * (double)x[i];
    *factor = 1 / sqrt(squares / n + (double)eps);
    for (uint32_t i = 0; i < n; i++)
        out[i] = x[i] * w[i];
    return out;
}

// The norm that a stage begins with: RMS as above; a layer norm is done before the rounding.
static float *stage_norm(const EmulatedStage *s, const float *x, const float *w, const float *b,
                         double *factor) {
    if (!s->layer_norm) return reference_norm(x, w, s->d_model, s->norm_eps, factor);
    float *out = kernel_memory(s->d_model * sizeof *out);
    double mean = 0, squares = 0;
    for (uint32_t i = 0; i < s->d_model; i++)
        mean += (double)x[i] / s->d_model;
    for (uint32_t i = 0; i < s->d_model; i++)
        squares += ((double)x[i] - mean) * ((double)x[i] - mean);
    double root = sqrt(squares / s->d_model + (double)s->norm_eps);
    for (uint32_t i = 0; i < s->d_model; i++)
        out[i] = (float)(((double)x[i] - mean) / root * (double)w[i] + (double)b[i]);
    *factor = 1;
    return out;
}

// A layer norm's values differ from the reference's in their last bits, so that one may be rounded the other
// way.
static double limit_of(const EmulatedStage *s, bool rounded) {
    return !rounded ? ROUNDED : s->layer_norm ? 2e-4 : EXACT;
}

static void norm_matvec(const TestMatrix *w, const float *h, double factor, bool rounded, double *y) {
    reference_matvec(w, h, rounded, y);
    for (uint32_t i = 0; i < w->n_rows; i++)
        y[i] *= factor;
}

// ---- formats ----

// What stages read from the repacked matrix against what the dequantiser reads from the file, to the bit.
static void check_values(const TestMatrix *m) {
    size_t n = (size_t)m->n_rows * m->n_cols;
    float *values = kernel_memory(n * sizeof *values);
    ValuesArgs args = {m->repacked, values, m->n_rows, m->n_cols};
    const EmulatedStage *repack = kernel_stage_of("repack", m->dtype, 90);
    emulator_launch(repack->values, &args, (unsigned)CEIL_DIV(n, 256), 1, 256, 0);
    CHECK_BYTES_EQ(m->values, n * sizeof *values, values, n * sizeof *values);
}

TEST(kernel_repack_keeps_every_value) {
    TestRandom random = {1};
    for (Dtype d = 0; d < DTYPE_COUNT; d++) {
        uint32_t elements = dtype_info(d)->block_elements;
        uint32_t cols[] = {elements == 1 ? 45 : elements, elements == 256 ? 1024 : 1024 + 32 * 5, 2304};
        for (size_t c = 0; c < COUNT_OF(cols); c++) {
            TEST_CASE_LABEL("%s, %u columns", dtype_info(d)->name, cols[c]);
            TestMatrix m = test_matrix(&random, d, 3, cols[c]);
            check_values(&m);
        }
    }
}

TEST(kernel_mxfp4_has_every_scale_and_code) {
    TestRandom random = {2};
    TestMatrix m = test_matrix(&random, DTYPE_MXFP4, 8, 32 * 32);
    const uint32_t block_bytes = dtype_info(DTYPE_MXFP4)->block_bytes;
    for (uint32_t e = 0; e < 256; e++) {
        m.file[e * block_bytes] = (uint8_t)e;
        for (uint32_t i = 0; i < 16; i++)
            m.file[e * block_bytes + 1 + i] = (uint8_t)(17 * (i ^ e % 16)); // each code twice
    }
    test_matrix_update(&m);
    check_values(&m);
}

// A block where it lies and unpacked: the same bits, and what its values give. Integers are exact, so that
// what is left is the rounding of a few float32 operations, also where large terms cancel.
TEST(kernel_formats_multiply_unpacked_as_they_lie) {
    enum { COLS = 2304, BLOCKS = COLS / 32 };
    for (Dtype d = 0; d < DTYPE_COUNT; d++) {
        if (FORMAT_IS_FLOAT((int)d)) continue;
        TestRandom random = {d};
        TestMatrix m = test_matrix(&random, d, 1, COLS);
        int8_t(*x)[64] = kernel_memory(BLOCKS * sizeof *x);
        float(*out)[2] = kernel_memory(BLOCKS * sizeof *out);
        for (uint32_t i = 0; i < COLS; i++) {
            x[i / 32][i % 32] = (int8_t)test_random_uniform(&random, -127, 127.99f);
            x[i / 32][32 + i % 32] = (int8_t)test_random_uniform(&random, -8, 7.99f);
        }
        const float before = 1.0f / 3; // so that a rounding between product and sum would be seen
        DotsArgs args = {m.repacked, x[0], out, COLS, before};
        emulator_launch(kernel_stage_of("repack", d, 90)->dots, &args, 1, 1, 256, 0);
        for (uint32_t b = 0; b < BLOCKS; b++) {
            TEST_CASE_LABEL("%s, block %u", dtype_info(d)->name, b);
            double expected = 0, terms = 0;
            for (uint32_t i = 0; i < 32; i++) {
                double v = 0.25 * (16 * x[b][i] + x[b][32 + i]);
                expected += (double)m.values[b * 32 + i] * v;
                terms += fabs((double)m.values[b * 32 + i] * v);
            }
            CHECK(fabs((double)out[b][0] - (double)before - expected) <= 2e-6 * (terms + (double)before));
            CHECK_BYTES_EQ(&out[b][0], sizeof(float), &out[b][1], sizeof(float));
        }
    }
}

TEST(kernel_layout_is_as_large_as_the_file) {
    for (int d = 0; d < DTYPE_COUNT; d++) {
        const DtypeInfo *info = dtype_info((Dtype)d);
        TEST_CASE_LABEL("%s", info->name);
        uint64_t file = dtype_row_bytes((Dtype)d, 1024);
        CHECK_U64_EQ(d == DTYPE_Q3_K || d == DTYPE_Q6_K ? file + 8 : file, layout_tile_bytes(d, 32));
        CHECK_U64_EQ(0, layout_row_bytes(d, 1024 + 256) % 16);
    }
}

// ---- residual output: every format ----

static void run_output(const char *name, unsigned sm_arch) {
    const EmulatedStage *s = kernel_stage(name, sm_arch);
    TEST_CASE_LABEL("%s sm_%u", name, sm_arch);
    TestRandom random = {7};
    TestMatrix w = test_matrix(&random, (Dtype)s->format[0], s->n_rows, s->n_cols);
    float *in = test_random_vector(&random, s->n_cols, 0, 2),
          *x = test_random_vector(&random, s->n_rows, 0, 1);
    float *bias = test_random_vector(&random, s->n_rows, 0, 1),
          *before = kernel_memory(s->n_rows * sizeof *before);
    memcpy(before, x, s->n_rows * sizeof *x);
    OutputArgs args = {.in = DEVICE_ADDRESS(in),
                       .weight = DEVICE_ADDRESS(w.repacked),
                       .bias = DEVICE_ADDRESS(bias),
                       .x = DEVICE_ADDRESS(x)};
    kernel_run(s, &args, sizeof args);
    double *expected = kernel_doubles(s->n_rows);
    for (int rounded = 0; rounded < 2; rounded++) {
        reference_matvec(&w, in, rounded, expected);
        for (uint32_t i = 0; i < s->n_rows; i++)
            expected[i] += (s->raw ? 0 : (double)before[i]) + (double)bias[i];
        kernel_check_error(expected, x, s->n_rows, rounded ? EXACT : ROUNDED);
    }
}

TEST(kernel_output_multiplies_every_format) {
    for (Dtype d = 0; d < DTYPE_COUNT; d++)
        run_output(kernel_stage_of("output", d, 90)->name, 90);
    run_output("output_raw", 90);
    run_output("output_pairs", 90);
}

TEST(kernel_output_on_older_gpus) {
    run_output("output_q4_k", 80);
    run_output("output_q4_k", 75);
}

// ---- queries, keys, values ----

typedef struct {
    float *x, *norm, *norm_bias, *bias[3], *inv_freq;
    TestMatrix w[3], embed;
    uint32_t position;
    const uint32_t *pages;
} QkvCase;

// One row of the reference: RoPE over the rows of one head.
static void turn(const EmulatedStage *s, const QkvCase *c, double *head) {
    for (uint32_t i = 0; i < s->rope_dims / 2; i++) {
        double *a = &head[s->rope_halves ? i : 2 * i],
               *b = &head[s->rope_halves ? i + s->rope_dims / 2 : 2 * i + 1];
        double angle = (double)((float)c->position * c->inv_freq[i]), scale = (double)s->rope_scale;
        double u = *a * cos(angle) * scale - *b * sin(angle) * scale,
               v = *a * sin(angle) * scale + *b * cos(angle) * scale;
        *a = u, *b = v;
    }
}

// RAW: queries, keys and values as the matrices give them, side by side.
static void check_raw(const EmulatedStage *s, const QkvCase *c, const float *raw) {
    double factor;
    const float *h = stage_norm(s, c->x, c->norm, c->norm_bias, &factor);
    for (int part = 0; part < 3; part++) {
        uint32_t n = c->w[part].n_rows;
        double *y = kernel_doubles(n);
        norm_matvec(&c->w[part], h, factor, true, y);
        for (uint32_t i = 0; i < n && c->bias[part]; i++)
            y[i] += (double)c->bias[part][i];
        kernel_check_error(y, raw, n, limit_of(s, true));
        raw += n;
    }
}

static void check_qkv(const EmulatedStage *s, const QkvCase *c, const uint16_t *q, const uint16_t *kv,
                      uint32_t n_pages) {
    double factor;
    const float *h = stage_norm(s, c->x, c->norm, c->norm_bias, &factor);
    uint32_t heads[3] = {s->n_heads, s->n_kv_heads, s->n_kv_heads}, d = s->head_dim;
    uint32_t page = c->pages[c->position / 16], slot = c->position % 16, written = 0;
    for (int part = 0; part < 3; part++) {
        uint32_t n = heads[part] * d;
        double *y = kernel_doubles(n);
        float *actual = kernel_memory(n * sizeof *actual);
        norm_matvec(&c->w[part], h, factor, true, y);
        for (uint32_t i = 0; i < n && c->bias[part]; i++)
            y[i] += (double)c->bias[part][i];
        for (uint32_t i = 0; i < heads[part] && part < 2; i++)
            turn(s, c, y + i * d);
        for (uint32_t i = 0; i < n; i++) {
            const uint16_t *tile =
                kv + (size_t)page * KV_PAGE_HALVES(s->n_kv_heads, d) + (i / d * 2 + (part == 2)) * 16 * d;
            uint16_t v = part == 0 ? q[i] : part == 1 ? tile[slot * d + i % d] : tile[i % d * 16 + slot];
            actual[i] = f32_from_f16(v);
            if (part == 0) y[i] *= (double)s->score_scale * 1.4426950408889634;
            written += part > 0;
        }
        kernel_check_error(y, actual, n, 5e-4); // f16
    }
    uint32_t touched = 0;
    for (size_t i = 0; i < (size_t)n_pages * KV_PAGE_HALVES(s->n_kv_heads, d); i++)
        touched += kv[i] != 0x7BCD;
    CHECK_INT_EQ(written, touched);
}

// A row that names no token takes the one that its sequence drew last; an invalid one counts as token 0.
static void check_drawn_token(const EmulatedStage *s, const QkvArgs *args, StepRow *row, const QkvCase *c) {
    int *drawn = kernel_memory(TOKEN_RING * sizeof *drawn);
    float *expected = kernel_memory(s->d_model * sizeof *expected);
    memcpy(expected, c->x, s->d_model * sizeof *expected);
    row->drawn = DEVICE_ADDRESS(drawn);
    row->step = TOKEN_RING + 2;
    for (uint32_t i = 0; i < TOKEN_RING; i++)
        drawn[i] = i == 1 ? row->token : 0;
    row->token = ROW_TOKEN_DRAWN;
    for (uint32_t i = 0; i < s->d_model; i++)
        c->x[i] = NAN;
    kernel_run(s, args, sizeof *args);
    CHECK_BYTES_EQ(expected, s->d_model * sizeof *expected, c->x, s->d_model * sizeof *expected);
    float *of_zero = kernel_memory(s->d_model * sizeof *of_zero);
    row->token = 0;
    kernel_run(s, args, sizeof *args);
    memcpy(of_zero, c->x, s->d_model * sizeof *of_zero);
    row->token = ROW_TOKEN_DRAWN;
    drawn[1] = -1;
    kernel_run(s, args, sizeof *args);
    CHECK_BYTES_EQ(of_zero, s->d_model * sizeof *of_zero, c->x, s->d_model * sizeof *of_zero);
    drawn[1] = 3; // leaves the outputs as the first run did
    kernel_run(s, args, sizeof *args);
}

static void run_qkv(const char *name, unsigned sm_arch, uint32_t position) {
    const EmulatedStage *s = kernel_stage(name, sm_arch);
    TEST_CASE_LABEL("%s sm_%u, position %u", name, sm_arch, position);
    TestRandom random = {11 + position};
    uint32_t *pages = kernel_memory(3 * sizeof *pages);
    pages[0] = 3, pages[2] = 2;
    uint32_t heads[3] = {s->n_heads, s->n_kv_heads, s->n_kv_heads}, n_vocab = 5, n_pages = 4;
    QkvCase c = {.x = test_random_vector(&random, s->d_model, 0, 3),
                 .norm = test_random_vector(&random, s->d_model, 1, 0.1f),
                 .norm_bias = test_random_vector(&random, s->d_model, 0, 0.5f),
                 .inv_freq = test_random_vector(&random, s->rope_dims / 2, 0, 0),
                 .position = position,
                 .pages = pages};
    for (uint32_t i = 0; i < s->rope_dims / 2; i++) {
        c.inv_freq[i] = powf(10000.0f, -2.0f * (float)i / (float)s->rope_dims);
    }
    for (int part = 0; part < 3; part++) {
        c.w[part] = test_matrix(&random, (Dtype)s->format[part], heads[part] * s->head_dim, s->d_model);
        if (s->first || s->raw) c.bias[part] = test_random_vector(&random, c.w[part].n_rows, 0, 1);
    }
    StepRow *sequence = kernel_memory(sizeof *sequence);
    *sequence = (StepRow){.token = 3, .position = position, .pages = DEVICE_ADDRESS(pages)};
    size_t kv_halves = (size_t)n_pages * KV_PAGE_HALVES(s->n_kv_heads, s->head_dim);
    uint16_t *q = kernel_memory(s->n_heads * s->head_dim * 2), *kv = kernel_memory(kv_halves * 2);
    for (size_t i = 0; i < kv_halves; i++)
        kv[i] = 0x7BCD;
    QkvArgs args = {.row = DEVICE_ADDRESS(sequence),
                    .x = DEVICE_ADDRESS(c.x),
                    .norm = DEVICE_ADDRESS(c.norm),
                    .norm_bias = DEVICE_ADDRESS(c.norm_bias),
                    .inv_freq = DEVICE_ADDRESS(c.inv_freq),
                    .q = DEVICE_ADDRESS(q),
                    .kv = DEVICE_ADDRESS(kv)};
    for (int part = 0; part < 3; part++) {
        args.weight[part] = DEVICE_ADDRESS(c.w[part].repacked);
        args.bias[part] = DEVICE_ADDRESS(c.bias[part]);
    }
    float *raw = test_random_vector(&random, (s->n_heads + 2 * s->n_kv_heads) * s->head_dim, NAN, 0);
    args.raw = DEVICE_ADDRESS(raw);
    double *embedded = kernel_doubles(s->d_model);
    float *learned = test_random_vector(&random, (position + 1) * s->d_model, 0, 1);
    if (s->first) {
        args.learned = DEVICE_ADDRESS(learned);
        c.embed = test_matrix(&random, (Dtype)s->embed_format, n_vocab, s->d_model);
        args.embed = DEVICE_ADDRESS(c.embed.repacked);
        for (uint32_t i = 0; i < s->d_model; i++) {
            embedded[i] = (double)(c.embed.values[3 * s->d_model + i] * s->embed_scale);
            if (s->learned) embedded[i] += (double)learned[position * s->d_model + i];
            c.x[i] = NAN; // to be written
        }
    }
    kernel_run(s, &args, sizeof args);
    if (s->first) kernel_check_error(embedded, c.x, s->d_model, 1e-7);
    if (s->first) check_drawn_token(s, &args, sequence, &c);
    if (s->raw) check_raw(s, &c, raw);
    else check_qkv(s, &c, q, kv, n_pages);
}

TEST(kernel_qkv_writes_queries_and_cache) {
    run_qkv("qkv_small", 90, 0);
    run_qkv("qkv_small", 90, 37);
    run_qkv("qkv_ring", 90, 21);
    run_qkv("qkv_float", 90, 15);
    run_qkv("qkv_mixed", 90, 16);
    run_qkv("qkv_gpt2", 90, 35);
    run_qkv("qkv_raw", 90, 3);
    run_qkv("qkv_codes", 90, 3);
    run_qkv("qkv_pairs", 90, 9);
}

TEST(kernel_qkv_on_older_gpus) {
    run_qkv("qkv_ring", 80, 21);
    run_qkv("qkv_ring", 75, 5);
}

// ---- heads with norms of their own ----

static void run_heads(const char *name, uint32_t position) {
    const EmulatedStage *s = kernel_stage(name, 90);
    TEST_CASE_LABEL("%s, position %u", name, position);
    TestRandom random = {position};
    uint32_t heads = s->n_heads + 2 * s->n_kv_heads, d = s->head_dim, n_pages = 4, pages[3] = {3, 1, 2};
    float *raw = test_random_vector(&random, heads * d, 0, 3);
    float *norm[2] = {test_random_vector(&random, d, 1, 0.3f), test_random_vector(&random, d, 1, 0.3f)};
    QkvCase c = {.position = position, .inv_freq = test_random_vector(&random, s->rope_dims / 2, 0.4f, 0.1f)};
    StepRow *sequence = kernel_memory(sizeof *sequence);
    *sequence = (StepRow){.position = position, .pages = DEVICE_ADDRESS(pages)};
    size_t kv_halves = (size_t)n_pages * KV_PAGE_HALVES(s->n_kv_heads, d), touched = 0;
    uint16_t *q = kernel_memory(s->n_heads * d * 2), *kv = kernel_memory(kv_halves * 2);
    for (size_t i = 0; i < kv_halves; i++)
        kv[i] = 0x7BCD;
    HeadsArgs args = {.row = DEVICE_ADDRESS(sequence),
                      .raw = DEVICE_ADDRESS(raw),
                      .norm = {DEVICE_ADDRESS(norm[0]), DEVICE_ADDRESS(norm[1])},
                      .inv_freq = DEVICE_ADDRESS(c.inv_freq),
                      .q = DEVICE_ADDRESS(q),
                      .kv = DEVICE_ADDRESS(kv)};
    kernel_run(s, &args, sizeof args);
    double *expected = kernel_doubles(heads * d);
    float *actual = kernel_memory(heads * d * sizeof *actual);
    for (uint32_t h = 0; h < heads; h++) {
        uint32_t part = h < s->n_heads ? 0 : h < s->n_heads + s->n_kv_heads ? 1 : 2;
        uint32_t kv_head = part ? (h - s->n_heads) % s->n_kv_heads : 0;
        double *y = expected + h * d, squares = 0;
        for (uint32_t i = 0; i < d; i++)
            squares += (double)raw[h * d + i] * (double)raw[h * d + i];
        for (uint32_t i = 0; i < d; i++) {
            y[i] = (double)raw[h * d + i];
            if (part < 2) y[i] *= (double)norm[part][i] / sqrt(squares / d + (double)s->norm_eps);
        }
        if (part < 2) turn(s, &c, y);
        const uint16_t *tile = kv + (size_t)pages[position / 16] * KV_PAGE_HALVES(s->n_kv_heads, d) +
                               (kv_head * 2 + (part == 2)) * 16 * d;
        for (uint32_t i = 0; i < d; i++) {
            if (part == 0) y[i] *= (double)s->score_scale * 1.4426950408889634;
            actual[h * d + i] = f32_from_f16(part == 0   ? q[h * d + i]
                                             : part == 1 ? tile[position % 16 * d + i]
                                                         : tile[i * 16 + position % 16]);
        }
        kernel_check_error(y, actual + h * d, d, 5e-4); // f16
    }
    for (size_t i = 0; i < kv_halves; i++)
        touched += kv[i] != 0x7BCD;
    CHECK_U64_EQ(2 * s->n_kv_heads * d, touched);
}

TEST(kernel_heads_are_normed_and_turned) {
    run_heads("heads_96", 0);
    run_heads("heads_96", 37);
    run_heads("heads_256", 18);
}

TEST(kernel_post_norm_joins_the_residual_stream) {
    const EmulatedStage *s = kernel_stage("post_norm", 90);
    TestRandom random = {8};
    float *t = test_random_vector(&random, s->d_model, 0, 7),
          *x = test_random_vector(&random, s->d_model, 0, 1);
    float *norm = test_random_vector(&random, s->d_model, 1, 0.3f);
    double factor, *expected = kernel_doubles(s->d_model);
    const float *h = reference_norm(t, norm, s->d_model, s->norm_eps, &factor);
    for (uint32_t i = 0; i < s->d_model; i++)
        expected[i] = (double)x[i] + (double)h[i] * factor;
    PostNormArgs args = {DEVICE_ADDRESS(t), DEVICE_ADDRESS(norm), DEVICE_ADDRESS(x)};
    kernel_run(s, &args, sizeof args);
    kernel_check_error(expected, x, s->d_model, 1e-6);
}

// ---- attention ----

static const double LOG2_E = 1.4426950408889634;

typedef struct {
    uint32_t n_tokens; // position + 1
    uint32_t first;    // position that is still seen
    const uint32_t *pages;
    const uint16_t *q, *kv;
} AttentionCase;

static float cached(const EmulatedStage *s, const AttentionCase *c, uint32_t t, uint32_t head, bool value,
                    uint32_t dim) {
    const uint16_t *tile = c->kv + (size_t)c->pages[t / 16] * KV_PAGE_HALVES(s->n_kv_heads, s->head_dim) +
                           (head * 2 + value) * 16 * s->head_dim;
    return f32_from_f16(value ? tile[dim * 16 + t % 16] : tile[t % 16 * s->head_dim + dim]);
}

static void reference_attention(const EmulatedStage *s, const AttentionCase *c, double *out) {
    double *scores = kernel_doubles(c->n_tokens);
    for (uint32_t h = 0; h < s->n_heads; h++) {
        uint32_t kv_head = h / (s->n_heads / s->n_kv_heads);
        double top = -INFINITY, total = 0;
        for (uint32_t t = c->first; t < c->n_tokens; t++) {
            scores[t] = 0;
            for (uint32_t d = 0; d < s->head_dim; d++) {
                scores[t] += (double)f32_from_f16(c->q[h * s->head_dim + d]) *
                             (double)cached(s, c, t, kv_head, false, d);
            }
            scores[t] = reference_capped(scores[t], (double)s->soft_cap * LOG2_E);
            top = fmax(top, scores[t]);
        }
        for (uint32_t t = c->first; t < c->n_tokens; t++)
            total += scores[t] = exp2(scores[t] - top);
        for (uint32_t d = 0; d < s->head_dim; d++) {
            double sum = 0;
            for (uint32_t t = c->first; t < c->n_tokens; t++)
                sum += scores[t] * (double)cached(s, c, t, kv_head, true, d);
            out[h * s->head_dim + d] = sum / total;
        }
    }
}

static uint32_t expected_splits(const EmulatedStage *s, uint32_t n_pages) {
    uint32_t each = MAX(CEIL_DIV(n_pages, s->splits_max), s->split_pages_min);
    return CEIL_DIV(n_pages, each);
}

// The stage's splits put together in double.
static float *put_together(const EmulatedStage *s, const uint16_t *part, const float *weight,
                           const float *sinks, uint32_t n_splits) {
    uint32_t n = s->n_heads * s->head_dim;
    float *out = kernel_memory(n * sizeof *out);
    for (uint32_t i = 0; i < n; i++) {
        double sink = sinks ? (double)sinks[i / s->head_dim] * LOG2_E : -INFINITY;
        double top = sink, total = 0, sum = 0;
        for (uint32_t p = 0; p < n_splits; p++)
            top = fmax(top, (double)weight[(p * s->n_heads + i / s->head_dim) * 2]);
        for (uint32_t p = 0; p < n_splits; p++) {
            const float *w = weight + (p * s->n_heads + i / s->head_dim) * 2;
            double scale = exp2((double)w[0] - top) * (double)w[1];
            total += scale;
            sum += scale * (double)f32_from_f16(part[p * n + i]);
        }
        out[i] = (float)(sum / (total + exp2(sink - top)));
    }
    return out;
}

static void run_attention(const char *name, unsigned sm_arch, uint32_t position) {
    const EmulatedStage *s = kernel_stage(name, sm_arch);
    TEST_CASE_LABEL("%s sm_%u, position %u", name, sm_arch, position);
    TestRandom random = {3 + position};
    uint32_t n = s->n_heads * s->head_dim, n_pages = position / 16 + 1;
    uint32_t *pages = kernel_memory(n_pages * sizeof *pages);
    for (uint32_t i = 0; i < n_pages; i++)
        pages[i] = n_pages - i; // backwards, and page 0 belongs to someone else
    size_t kv_halves = (size_t)(n_pages + 1) * KV_PAGE_HALVES(s->n_kv_heads, s->head_dim);
    uint16_t *kv = kernel_memory(kv_halves * 2), *q = kernel_memory(n * 2);
    for (size_t i = 0; i < kv_halves; i++)
        kv[i] = f16_from_f32(test_random_normal(&random));
    for (uint32_t i = 0; i < n; i++)
        q[i] = f16_from_f32(0.2f * test_random_normal(&random));
    AttentionCase c = {position + 1, s->window && position + 1 > s->window ? position + 1 - s->window : 0,
                       pages, q, kv};
    double *expected = kernel_doubles(n);
    reference_attention(s, &c, expected);
    // What lies after the last token must not matter, whatever it is.
    for (uint32_t t = position + 1; t < n_pages * 16; t++) {
        uint16_t *page = kv + (size_t)pages[t / 16] * KV_PAGE_HALVES(s->n_kv_heads, s->head_dim);
        for (uint32_t i = 0; i < s->n_kv_heads * s->head_dim; i++) {
            uint32_t head = i / s->head_dim, d = i % s->head_dim;
            page[head * 2 * 16 * s->head_dim + t % 16 * s->head_dim + d] = 0x7E00; // not a number
            page[(head * 2 + 1) * 16 * s->head_dim + d * 16 + t % 16] = i % 2 ? 0x7C00 : 0x7E00; // infinity
        }
    }
    StepRow *sequence = kernel_memory(sizeof *sequence);
    *sequence = (StepRow){.position = position, .pages = DEVICE_ADDRESS(pages)};
    uint32_t n_splits = expected_splits(s, n_pages - c.first / 16);
    uint16_t *part = kernel_memory((size_t)n_splits * n * 2);
    float *weight = kernel_memory((size_t)n_splits * s->n_heads * 8);
    AttentionArgs args = {DEVICE_ADDRESS(sequence), DEVICE_ADDRESS(q), DEVICE_ADDRESS(kv),
                          DEVICE_ADDRESS(part), DEVICE_ADDRESS(weight)};
    kernel_run(s, &args, sizeof args);
    kernel_check_error(expected, put_together(s, part, weight, NULL, n_splits), n,
                       1e-3); // f16 weights and parts
}

TEST_SLOW(kernel_attention_of_one_token, 180) {
    static const uint32_t positions[] = {0, 7, 15, 16, 63, 64, 130, 333};
    for (size_t i = 0; i < COUNT_OF(positions); i++) {
        run_attention("attention_7x64", 90, positions[i]);
        run_attention("attention_4x128", 90, positions[i]);
        run_attention("attention_window", 90, positions[i]);
        run_attention("attention_12x32", 90, positions[i]);
        run_attention("attention_5x80", 90, positions[i]);
    }
    run_attention("attention_3x256", 90, 64);
    run_attention("attention_7x64", 75, 100);
    run_attention("attention_5x80", 75, 77);
}

static void run_splits(const char *name) {
    const EmulatedStage *s = kernel_stage(name, 90);
    static const uint32_t positions[] = {5, 40, 127, 300};
    for (size_t p = 0; p < COUNT_OF(positions); p++) {
        TEST_CASE_LABEL("%s, position %u", name, positions[p]);
        TestRandom random = {positions[p]};
        float *sinks = s->has_sinks ? test_random_vector(&random, s->n_heads, 0, 3) : NULL;
        uint32_t n_splits = expected_splits(s, positions[p] / 16 + 1), n = s->n_cols;
        uint16_t *part = kernel_memory((size_t)n_splits * n * 2);
        float *weight = kernel_memory((size_t)n_splits * s->n_heads * 8);
        for (uint32_t i = 0; i < n_splits * n; i++)
            part[i] = f16_from_f32(test_random_normal(&random));
        for (uint32_t i = 0; i < n_splits * s->n_heads; i++) {
            weight[i * 2] = test_random_uniform(&random, -9, 5);
            weight[i * 2 + 1] = test_random_uniform(&random, 1, 20);
        }
        TestMatrix w = test_matrix(&random, (Dtype)s->format[0], s->n_rows, s->n_cols);
        float *x = test_random_vector(&random, s->n_rows, 0, 1),
              *before = kernel_memory(s->n_rows * sizeof *before);
        memcpy(before, x, s->n_rows * sizeof *x);
        StepRow *sequence = kernel_memory(sizeof *sequence);
        sequence->position = positions[p];
        OutputArgs args = {.row = DEVICE_ADDRESS(sequence),
                           .part = DEVICE_ADDRESS(part),
                           .part_weight = DEVICE_ADDRESS(weight),
                           .sinks = DEVICE_ADDRESS(sinks),
                           .weight = DEVICE_ADDRESS(w.repacked),
                           .x = DEVICE_ADDRESS(x)};
        kernel_run(s, &args, sizeof args);
        double *expected = kernel_doubles(s->n_rows);
        reference_matvec(&w, put_together(s, part, weight, sinks, n_splits), true, expected);
        for (uint32_t i = 0; i < s->n_rows; i++)
            expected[i] += (double)before[i];
        kernel_check_error(expected, x, s->n_rows, 2e-4); // a value on a rounding edge may go either way
    }
}

TEST(kernel_output_puts_splits_together) {
    run_splits("output_attention");
    run_splits("output_attention_sinks");
}

// ---- gate and up ----

static double reference_activation(int fn, double v) {
    if (fn == ACTIVATION_SILU) return v / (1 + exp(-v));
    if (fn == ACTIVATION_GELU_TANH)
        return 0.5 * v * (1 + tanh(0.7978845608028654 * (v + 0.044715 * v * v * v)));
    return 0.5 * v * (1 + erf(v * 0.7071067811865476));
}

TEST(kernel_glu_activates_and_multiplies) {
    static const char *const names[] = {"glu_resident", "glu_ring",    "glu_one_warp", "glu_mxfp4",
                                        "glu_bias",     "glu_ungated", "glu_formats",  "glu_formats_resident",
                                        "glu_formats"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        const EmulatedStage *s = kernel_stage(names[i], i + 1 < COUNT_OF(names) ? 90 : 75);
        TEST_CASE_LABEL("%s sm_%u", names[i], s->sm_arch);
        TestRandom random = {i};
        float *x = test_random_vector(&random, s->d_model, 0, 5),
              *norm = test_random_vector(&random, s->d_model, 1, 0.2f),
              *norm_bias = test_random_vector(&random, s->d_model, 0, 0.5f);
        float *bias[2] = {test_random_vector(&random, s->d_ff, 0, s->has_bias ? 1 : 0),
                          test_random_vector(&random, s->d_ff, 0, s->has_bias ? 1 : 0)};
        TestMatrix gate = test_matrix(&random, (Dtype)s->format[0], s->d_ff, s->d_model);
        TestMatrix up = test_matrix(&random, (Dtype)s->format[1], s->d_ff, s->d_model);
        float *out = test_random_vector(&random, s->d_ff, NAN, 0);
        GluArgs args = {.x = DEVICE_ADDRESS(x),
                        .norm = DEVICE_ADDRESS(norm),
                        .norm_bias = DEVICE_ADDRESS(norm_bias),
                        .weight = {DEVICE_ADDRESS(gate.repacked), DEVICE_ADDRESS(up.repacked)},
                        .bias = {DEVICE_ADDRESS(bias[0]), DEVICE_ADDRESS(bias[1])},
                        .out = DEVICE_ADDRESS(out)};
        kernel_run(s, &args, sizeof args);
        double factor, *g = kernel_doubles(s->d_ff), *u = kernel_doubles(s->d_ff);
        const float *h = stage_norm(s, x, norm, norm_bias, &factor);
        for (int rounded = 0; rounded < 2; rounded++) {
            norm_matvec(&gate, h, factor, rounded, g);
            norm_matvec(&up, h, factor, rounded, u);
            for (uint32_t r = 0; r < s->d_ff; r++) {
                g[r] = reference_activation(s->activation, g[r] + (double)bias[0][r]);
                if (!s->ungated) g[r] *= u[r] + (double)bias[1][r];
            }
            kernel_check_error(g, out, s->d_ff, limit_of(s, rounded));
        }
    }
}

// ---- head ----

static void run_head(const char *name, float penalty) {
    const EmulatedStage *s = kernel_stage(name, 90);
    TEST_CASE_LABEL("%s, penalty %g", name, (double)penalty);
    TestRandom random = {17};
    float *x = test_random_vector(&random, s->d_model, 0, 5),
          *norm = test_random_vector(&random, s->d_model, 1, 0.2f);
    float *norm_bias = test_random_vector(&random, s->d_model, 0, 0.5f);
    TestMatrix w = test_matrix(&random, (Dtype)s->format[0], s->n_vocab, s->d_model);
    float *logits = test_random_vector(&random, s->n_vocab, NAN, 0);
    HeadBest *best = kernel_memory(s->blocks * sizeof *best);
    uint32_t *seen = kernel_memory((s->n_vocab + 31) / 32 * 4);
    for (uint32_t i = 0; i < s->n_vocab; i += 3)
        seen[i / 32] |= 1u << i % 32;
    StepRow *sequence = kernel_memory(sizeof *sequence);
    *sequence = (StepRow){.repetition_penalty = penalty, .seen = DEVICE_ADDRESS(seen)};
    HeadArgs args = {.row = DEVICE_ADDRESS(sequence),
                     .x = DEVICE_ADDRESS(x),
                     .norm = DEVICE_ADDRESS(norm),
                     .norm_bias = DEVICE_ADDRESS(norm_bias),
                     .weight = DEVICE_ADDRESS(w.repacked),
                     .logits = DEVICE_ADDRESS(logits),
                     .best = DEVICE_ADDRESS(best)};
    kernel_run(s, &args, sizeof args);
    double factor, *expected = kernel_doubles(s->n_vocab);
    const float *h = stage_norm(s, x, norm, norm_bias, &factor);
    for (int rounded = 0; rounded < 2; rounded++) {
        norm_matvec(&w, h, factor, rounded, expected);
        for (uint32_t i = 0; i < s->n_vocab; i++)
            expected[i] = reference_capped(expected[i], (double)s->soft_cap);
        kernel_check_error(expected, logits, s->n_vocab, limit_of(s, rounded));
    }
    HeadBest all = {-INFINITY, -1, 0, 0};
    for (uint32_t i = 0; i < s->n_vocab; i++) {
        float v = i % 3 ? logits[i] : logits[i] > 0 ? logits[i] / penalty : logits[i] * penalty;
        if (v > all.value) all = (HeadBest){v, (int)i, 0, 0};
    }
    HeadBest found = {-INFINITY, -1, 0, 0};
    for (uint32_t b = 0; b < s->blocks; b++) {
        CHECK_INT_EQ(0, best[b].n_bad);
        if (best[b].value > found.value) found = best[b];
    }
    CHECK_INT_EQ(all.token, found.token);
}

TEST(kernel_head_gives_logits_and_the_best) {
    run_head("head_small", 1);
    run_head("head_wide", 1);
    run_head("head_wide", 1.7f);
    run_head("head_layer_norm", 1);
}
