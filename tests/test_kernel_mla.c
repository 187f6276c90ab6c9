// Attention over a compressed cache on the emulator: kernels_src/mla_attention.cuh, mla_fold.cuh,
// mla_values.cuh. Results agree with the formula in double to f16's rounding; a row's bits are the same
// whoever computes it.
#include "kernel_reference.h"

#include "base/f16.h"
#include "runner.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define F16 1e-3

enum { LIST_AT = 3, POOL_PAGES = 40, STRETCH_ROWS = 8 };

// Rows of a sequence at positions one after the other.
typedef struct {
    uint32_t sequence, position, n_rows;
} Span;

// A way to compute it: a prompt's stage, or that of few rows that decode with those that fold.
typedef struct {
    const EmulatedStage *attention, *fold, *values; // fold, values NULL: of prompts
} Way;

static const EmulatedStage *stage_of(const char *kind, const char *variant, unsigned sm_arch) {
    char name[32];
    snprintf(name, sizeof name, "mla_%s_%s", kind, variant);
    return kernel_stage(name, sm_arch);
}
static Way prompts(const char *variant, unsigned sm_arch) {
    return (Way){.attention = stage_of("spans", variant, sm_arch)};
}
static Way few(const char *variant, unsigned sm_arch) {
    return (Way){stage_of("rows", variant, sm_arch), stage_of("fold", variant, sm_arch),
                 stage_of("values", variant, sm_arch)};
}

// Entries of all sequences are in the same pool of pages, in an order of each sequence's own.
static uint32_t pool_page(uint32_t sequence, uint32_t page) {
    return (page * 7 + page / POOL_PAGES * 5 + sequence * 11) % POOL_PAGES;
}
static float entry(const uint16_t *pool, uint32_t key_dim, uint32_t sequence, uint32_t token, uint32_t dim) {
    size_t page = pool_page(sequence, token / 16);
    return f32_from_f16(pool[page * KV_TILE_HALVES(key_dim) + layout_kv_at(key_dim, 0, 0, token % 16, dim)]);
}

static void fill_query(const EmulatedStage *s, uint32_t sequence, uint32_t position, uint16_t *q) {
    TestRandom random = {sequence * 100003ull + position};
    for (uint32_t i = 0; i < s->n_heads * s->head_dim; i++)
        q[i] = f16_from_f32(1.5f / sqrtf((float)s->head_dim) * test_random_normal(&random));
}

static void reference_row(const EmulatedStage *s, const uint16_t *pool, uint32_t sequence, uint32_t position,
                          double *out) {
    uint16_t *q = kernel_memory((size_t)s->n_heads * s->head_dim * 2);
    fill_query(s, sequence, position, q);
    memset(out, 0, (size_t)s->n_heads * s->d_model * sizeof *out);
    for (uint32_t h = 0; h < s->n_heads; h++) {
        double total = 0;
        for (uint32_t t = 0; t <= position; t++) {
            double score = 0;
            for (uint32_t k = 0; k < s->head_dim; k++)
                score += (double)f32_from_f16(q[h * s->head_dim + k]) *
                         (double)entry(pool, s->head_dim, sequence, t, k);
            total += exp2(score);
            for (uint32_t k = 0; k < s->d_model; k++)
                out[h * s->d_model + k] += exp2(score) * (double)entry(pool, s->head_dim, sequence, t, k);
        }
        for (uint32_t k = 0; k < s->d_model; k++)
            out[h * s->d_model + k] /= total;
    }
}

// Pages of a span's sequence. The last one is its own, page `own` of kv: behind its last row there is no
// number.
static uint32_t *span_pages(const EmulatedStage *s, const Span *r, uint16_t *kv, uint32_t own) {
    uint32_t last = r->position + r->n_rows - 1, n = last / 16 + 1;
    size_t halves = KV_TILE_HALVES(s->head_dim);
    uint32_t *pages = (uint32_t *)kernel_memory((LIST_AT + n) * sizeof *pages) + LIST_AT;
    for (uint32_t i = 0; i < n; i++)
        pages[i] = pool_page(r->sequence, i);
    uint16_t *page = kv + own * halves;
    memcpy(page, kv + pages[n - 1] * halves, halves * 2);
    for (uint32_t i = 0; i < halves; i++) {
        if (i / s->head_dim > last % 16)
            page[layout_kv_at(s->head_dim, 0, 0, i / s->head_dim, i % s->head_dim)] = i % 2 ? 0x7C00 : 0x7E00;
    }
    pages[n - 1] = own;
    return pages;
}

// A span's rows, 8 at a time, those that see most keys first.
static void cut(const Span *r, uint32_t row, uint32_t *pages, Batch *batch, RowStretch *stretches) {
    for (uint32_t end = r->n_rows, n; end > 0; end -= n) {
        n = (end - 1) % STRETCH_ROWS + 1;
        stretches[batch->n_stretches[0]++] = (RowStretch){.pages = DEVICE_ADDRESS(pages - LIST_AT),
                                                          .row = row + end - n,
                                                          .n_rows = n,
                                                          .position = r->position + end - n,
                                                          .last = r->position + r->n_rows - 1};
    }
}

// Heads' matrices that leave latent vectors as they are, in tiles.
static uint8_t *identities(const EmulatedStage *s) {
    uint32_t n = s->d_model;
    size_t bytes = layout_matrix_bytes(FORMAT_F16, n, n);
    TestMatrix m = test_matrix(&(TestRandom){1}, DTYPE_F16, n, n);
    for (uint32_t i = 0; i < n * n; i++)
        ((uint16_t *)(void *)m.file)[i] = i / n == i % n ? f16_from_f32(1) : 0;
    test_matrix_update(&m);
    uint8_t *tiles = kernel_memory(s->n_heads * bytes), *one = test_matrix_tiles(&m, 0);
    for (uint32_t i = 0; i < s->n_heads; i++)
        memcpy(tiles + i * bytes, one, bytes);
    return tiles;
}

// What becomes of the blocks' parts: latent vectors of all rows, as mla_values has them. with_groups: with
// the stage that is left out where no row has more than a group.
static uint16_t *fold(Way w, const MlaAttentionArgs *a, bool with_groups) {
    const EmulatedStage *s = w.values;
    const Batch *batch = (const Batch *)(uintptr_t)a->batch;
    uint32_t cols = s->n_heads * s->d_model;
    uint16_t *activations = kernel_memory((size_t)s->max_rows * cols * 2);
    uint16_t *out = kernel_memory((size_t)batch->n_rows * cols * 2);
    if (with_groups) kernel_run(w.fold, a, sizeof *a);
    MlaValuesArgs args = {.batch = a->batch,
                          .rows = a->rows,
                          .latent = a->out,
                          .partial = a->partial,
                          .weight = DEVICE_ADDRESS(identities(s)),
                          .out = DEVICE_ADDRESS(activations)};
    kernel_run(s, &args, sizeof args);
    for (uint32_t i = 0; i < batch->n_rows * cols; i++)
        out[i] = activations[kernel_activation_place(s->max_rows, i / cols, i % cols)];
    return out;
}

// The spans' rows as one batch: f16 [row][heads][rank].
static uint16_t *attend(Way w, const uint16_t *pool, const Span *spans, uint32_t n_spans) {
    const EmulatedStage *s = w.attention;
    size_t halves = KV_TILE_HALVES(s->head_dim), q_row = (size_t)s->n_heads * s->head_dim;
    uint16_t *kv = kernel_memory((POOL_PAGES + n_spans) * halves * 2);
    memcpy(kv, pool, POOL_PAGES * halves * 2);
    Batch *batch = kernel_memory(sizeof *batch);
    bool folds_groups = false;
    BatchRow *rows = kernel_memory(s->max_rows * sizeof *rows);
    RowStretch *stretches = kernel_memory(s->max_rows * sizeof *stretches);
    uint16_t *q = kernel_memory(s->max_rows * q_row * 2);
    for (uint32_t i = 0; i < n_spans; i++) {
        uint32_t *pages = span_pages(s, &spans[i], kv, POOL_PAGES + i);
        cut(&spans[i], batch->n_rows, pages, batch, stretches);
        REQUIRE(batch->n_rows + spans[i].n_rows <= s->max_rows);
        for (uint32_t k = 0; k < spans[i].n_rows; k++) {
            uint32_t row = batch->n_rows++, position = spans[i].position + k;
            folds_groups = folds_groups || position >= ATTENTION_GROUP_KEYS;
            rows[row] = (BatchRow){.position = position, .pages = DEVICE_ADDRESS(pages - LIST_AT)};
            fill_query(s, spans[i].sequence, position, q + row * q_row);
        }
    }
    size_t n_out = (size_t)batch->n_rows * s->n_heads * s->d_model;
    uint16_t *out = kernel_memory(n_out * 2);
    size_t n_partial = w.fold ? layout_mla_partial_floats(s->n_heads, s->d_model, s->tile_tokens, s->max_rows,
                                                          s->blocks, s->groups_max)
                              : layout_mla_total_floats(s->d_model, s->tile_tokens, s->blocks);
    float *partial = test_random_vector(&(TestRandom){1}, n_partial, NAN, 0);
    MlaAttentionArgs args = {.batch = DEVICE_ADDRESS(batch),
                             .rows = DEVICE_ADDRESS(rows),
                             .stretches = DEVICE_ADDRESS(stretches),
                             .q = DEVICE_ADDRESS(q),
                             .kv = DEVICE_ADDRESS(kv),
                             .out = DEVICE_ADDRESS(out),
                             .partial = DEVICE_ADDRESS(partial),
                             .list_at = LIST_AT};
    kernel_run(s, &args, sizeof args);
    return w.fold ? fold(w, &args, folds_groups) : out;
}

static uint16_t *make_pool(const EmulatedStage *s) {
    TestRandom random = {7};
    size_t n = (size_t)POOL_PAGES * KV_TILE_HALVES(s->head_dim);
    uint16_t *pool = kernel_memory(n * 2);
    for (size_t i = 0; i < n; i++)
        pool[i] = f16_from_f32(test_random_normal(&random));
    return pool;
}

static void check_row(const EmulatedStage *s, const uint16_t *pool, uint32_t sequence, uint32_t position,
                      const uint16_t *actual) {
    size_t n = (size_t)s->n_heads * s->d_model;
    double *expected = kernel_doubles(n);
    float *values = kernel_memory(n * sizeof *values);
    for (size_t i = 0; i < n; i++)
        values[i] = f32_from_f16(actual[i]);
    reference_row(s, pool, sequence, position, expected);
    kernel_check_error(expected, values, n, F16);
}

// Rows of several sequences together against the formula, and each of them by the other ways.
static void check_rows(Way w, const Way *others, uint32_t n_others, const uint32_t *positions, uint32_t n) {
    const EmulatedStage *s = w.attention;
    uint16_t *pool = make_pool(s);
    size_t row = (size_t)s->n_heads * s->d_model;
    Span spans[8];
    REQUIRE(n <= COUNT_OF(spans));
    for (uint32_t i = 0; i < n; i++)
        spans[i] = (Span){i, positions[i], 1};
    const uint16_t *together = attend(w, pool, spans, n);
    for (uint32_t i = 0; i < n; i++) {
        TEST_CASE_LABEL("%s, position %u", s->name, positions[i]);
        check_row(s, pool, i, positions[i], together + i * row);
        CHECK_BYTES_EQ(together + i * row, row * 2, attend(w, pool, &spans[i], 1), row * 2);
    }
    for (uint32_t k = 0; k < n_others; k++) {
        TEST_CASE_LABEL("%s and %s sm_%u", s->name, others[k].attention->name, others[k].attention->sm_arch);
        CHECK_BYTES_EQ(together, n * row * 2, attend(others[k], pool, spans, n), n * row * 2);
    }
}

#define POSITIONS(...) (const uint32_t[]){__VA_ARGS__}, COUNT_OF(((const uint32_t[]){__VA_ARGS__}))

// A list that is one block's, lists that are cut within groups and between them, and two blocks a split.
TEST_SLOW(kernel_mla_rows, 300) {
    const Way heads_4[] = {few("4_wide", 90), few("4", 80), prompts("4", 90)};
    const Way heads_20[] = {few("20_chunks", 90), prompts("20", 90), prompts("20", 80)};
    check_rows(few("4", 90), heads_4, COUNT_OF(heads_4), POSITIONS(1100, 0, 1023, 1024, 127, 128, 3100));
    check_rows(few("20", 90), heads_20, COUNT_OF(heads_20), POSITIONS(1300, 15, 16));
}

// A prompt's rows together, cut in two, and its ends as rows that decode, beside other sequences.
static void check_spans(const char *name, Way rows, const Span *span, uint32_t first) {
    Way w = prompts(name, 90);
    uint16_t *pool = make_pool(w.attention);
    size_t row = (size_t)w.attention->n_heads * w.attention->d_model;
    Span beside[] = {{9, 70, 1}, *span, {8, 0, 2}};
    Span cuts[] = {{span->sequence, span->position, first},
                   {span->sequence, span->position + first, span->n_rows - first}};
    const uint16_t *together = attend(w, pool, beside, COUNT_OF(beside)) + row;
    TEST_CASE_LABEL("%s heads, %u rows at %u, %u of them first", name, span->n_rows, span->position, first);
    CHECK_BYTES_EQ(together, span->n_rows * row * 2, attend(w, pool, span, 1), span->n_rows * row * 2);
    for (uint32_t i = 0, from = 0; i < 2; from += cuts[i++].n_rows)
        CHECK_BYTES_EQ(together + from * row, cuts[i].n_rows * row * 2, attend(w, pool, &cuts[i], 1),
                       cuts[i].n_rows * row * 2);
    for (uint32_t i = 0; i < span->n_rows; i += span->n_rows - 1) {
        Span alone = {span->sequence, span->position + i, 1};
        check_row(w.attention, pool, alone.sequence, alone.position, together + i * row);
        CHECK_BYTES_EQ(together + i * row, row * 2, attend(rows, pool, &alone, 1), row * 2);
    }
}

// Products of four warps give the bits of those of one.
static void check_wgmma(const char *variant, const Span *spans, uint32_t n) {
    Way one = prompts(variant, 90), four = {.attention = stage_of("wgmma", variant, 90)};
    uint16_t *pool = make_pool(one.attention);
    size_t row = (size_t)one.attention->n_heads * one.attention->d_model, n_rows = 0;
    for (uint32_t i = 0; i < n; i++)
        n_rows += spans[i].n_rows;
    const uint16_t *out = attend(four, pool, spans, n);
    TEST_CASE_LABEL("%s, %u rows, the first at %u", four.attention->name, (uint32_t)n_rows,
                    spans[0].position);
    CHECK_BYTES_EQ(attend(one, pool, spans, n), n_rows * row * 2, out, n_rows * row * 2);
    check_row(one.attention, pool, spans[0].sequence, spans[0].position, out);
}

#define SPANS(...) (const Span[]){__VA_ARGS__}, COUNT_OF(((const Span[]){__VA_ARGS__}))

TEST_SLOW(kernel_mla_spans_by_wgmma, 300) {
    check_wgmma("4_wide", SPANS({0, 0, 1}));
    check_wgmma("4_wide", SPANS({0, 1020, 9}, {1, 0, 2}, {2, 63, 1}));
    check_wgmma("20_sheets", SPANS({1, 120, 11}, {0, 0, 3}, {2, 190, 1}));
    check_wgmma("20_sheets", SPANS({3, 2047, 3}));
}

TEST_SLOW(kernel_mla_spans, 300) {
    check_spans("4", few("4", 90), &(Span){3, 1020, 19}, 3);
    check_spans("4", few("4", 90), &(Span){2, 0, 41}, 17);
    check_spans("20", few("20", 90), &(Span){1, 120, 11}, 8);
}
