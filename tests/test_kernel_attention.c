// Heads and attention of batches on the emulator: kernels_src/turn_heads.cuh, rope_heads.cuh, attention.cuh,
// attention_clusters.cuh, span_attention.cuh, span_attention_wgmma.cuh, span_attention_wide.cuh,
// span_fold.cuh. Results agree with the formula in double to f16's rounding; a row's bits are the same
// whoever computes it.
#include "kernel_reference.h"

#include "base/f16.h"
#include "plan/kv_layout.h"
#include "runner.h"

#include <math.h>
#include <stdio.h>

#define F16 1e-3
#define Q8 1e-2 // of an entry: a code is up to half of one off

// ---- places ----

static float activation(const uint16_t *a, uint32_t max_rows, uint32_t row, uint32_t col) {
    return f32_from_f16(a[kernel_activation_place(max_rows, row, col)]);
}

static uint32_t page_halves(const EmulatedStage *s) {
    return s->n_kv_heads * layout_kv_piece_bytes(s->kv_q8, s->head_dim);
}

// The piece of a page of the cache that has a head's keys (values).
static uint8_t *piece_of(const EmulatedStage *s, const uint16_t *page, uint32_t head, bool value) {
    return (uint8_t *)(uintptr_t)page + (head * 2 + value) * layout_kv_piece_bytes(s->kv_q8, s->head_dim);
}
static float value_at(const EmulatedStage *s, const uint16_t *page, uint32_t head, bool value, uint32_t token,
                      uint32_t dim) {
    const uint8_t *piece = piece_of(s, page, head, value);
    if (!s->kv_q8) return f32_from_f16(page[layout_kv_at(s->head_dim, head, value, token, dim)]);
    float scale = f32_from_f16(*(const uint16_t *)(piece + layout_kv_scale_at(s->head_dim, token)));
    return (float)(piece[layout_kv_code_at(s->head_dim, value, token, dim)] - 128) * scale;
}
// Puts what is no number in the place of a token's entry.
static void spoil_entry(const EmulatedStage *s, uint16_t *page, uint32_t token) {
    for (uint32_t i = 0; i < 2 * s->n_kv_heads * s->head_dim; i++) {
        uint32_t dim = i / 2 % s->head_dim, head = i / 2 / s->head_dim;
        uint8_t *piece = piece_of(s, page, head, i % 2);
        uint16_t spoilt = dim % 2 ? 0x7C00 : 0x7E00;
        if (!s->kv_q8) page[layout_kv_at(s->head_dim, head, i % 2, token, dim)] = spoilt;
        else if (dim == 0) memcpy(piece + layout_kv_scale_at(s->head_dim, token), &spoilt, 2);
        else piece[layout_kv_code_at(s->head_dim, i % 2, token, dim)] = 0;
    }
}

TEST(kernel_attention_cache_has_a_place_each) {
    for (uint32_t dim = 16; dim <= 256; dim += 16) {
        TEST_CASE_LABEL("heads of %u", dim);
        uint32_t n = KV_PAGE_HALVES(3, dim), wrong = 0;
        uint8_t *taken = kernel_memory(n);
        for (uint32_t i = 0; i < n; i++) {
            uint32_t at = layout_kv_at(dim, i / (2 * 16 * dim), i / (16 * dim) % 2, i / dim % 16, i % dim);
            wrong += at >= n || taken[at]++ > 0;
            wrong += at / (32 * dim) != i / (32 * dim); // a head is one piece
            wrong += i % 8 > 0 && at % 8 != i % 8;      // and 8 dims are one unit
        }
        CHECK_INT_EQ(0, wrong);
        // Eight tokens' units of the same dims are in all 32 banks, wherever eight of a product begin.
        for (uint32_t token = 0; token < 16; token += 8) {
            uint32_t banks = 0;
            for (uint32_t t = token; t < token + 8; t++)
                banks |= 1u << layout_kv_at(dim, 0, 0, t, dim - 8) / 8 % 8;
            CHECK_INT_EQ(255, banks);
        }
    }
}

// Codes, too; and the plan counts as many bytes as there are.
TEST(kernel_attention_codes_have_a_place_each) {
    for (uint32_t dim = 16; dim <= 512; dim += 16) {
        TEST_CASE_LABEL("heads of %u", dim);
        uint32_t n = layout_kv_piece_bytes(1, dim), wrong = 0;
        CHECK_U64_EQ(n, kv_head_bytes(KV_TYPE_Q8, dim));
        CHECK_U64_EQ(layout_kv_piece_bytes(0, dim), kv_head_bytes(KV_TYPE_F16, dim));
        CHECK_INT_EQ(0, n % 32);
        for (uint32_t is_value = 0; is_value < 2; is_value++) {
            uint8_t *taken = kernel_memory(n);
            for (uint32_t i = 0; i < 16 * dim; i++)
                wrong += taken[layout_kv_code_at(dim, is_value, i / dim, i % dim)]++ > 0;
            for (uint32_t token = 0; token < 16; token++)
                for (uint32_t i = 0; i < 2; i++)
                    wrong += taken[layout_kv_scale_at(dim, token) + i]++ > 0;
        }
        CHECK_INT_EQ(0, wrong);
        for (uint32_t token = 0; token < 16; token += 8) {
            uint32_t banks = 0;
            for (uint32_t t = token; t < token + 8; t++)
                banks |= 1u << layout_kv_code_at(dim, 0, t, dim - 16) / 16 % 8;
            CHECK_INT_EQ(255, banks);
        }
    }
}

// Where the list of pages begins in a row of the page table here.
enum { LIST_AT = 3 };

// ---- heads ----

typedef struct {
    const EmulatedStage *s;
    const float *raw, *norm[2], *rope;
    uint32_t position;
} HeadsCase;

static void reference_head(const HeadsCase *c, uint32_t row, uint32_t h, double *y) {
    const EmulatedStage *s = c->s;
    uint32_t d = s->head_dim, heads = s->n_heads + 2 * s->n_kv_heads, half = s->rope_dims / 2;
    uint32_t part = h < s->n_heads ? 0 : h < s->n_heads + s->n_kv_heads ? 1 : 2;
    double squares = 0;
    for (uint32_t k = 0; k < d; k++) {
        y[k] = (double)c->raw[((size_t)row * heads + h) * d + k];
        squares += y[k] * y[k];
    }
    if (part == 2) return;
    for (uint32_t k = 0; k < d && s->norm_eps > 0; k++)
        y[k] *= (double)c->norm[part][k] / sqrt(squares / d + (double)s->norm_eps);
    for (uint32_t k = 0; k < half; k++) {
        double *a = &y[s->rope_halves ? k : 2 * k], *b = &y[s->rope_halves ? k + half : 2 * k + 1];
        const float *turn = c->rope + ((size_t)row * half + k) * 2;
        double u = *a * (double)turn[0] - *b * (double)turn[1],
               v = *a * (double)turn[1] + *b * (double)turn[0];
        *a = u, *b = v;
    }
    for (uint32_t k = 0; k < d && part == 0; k++)
        y[k] *= (double)s->score_scale * 1.4426950408889634;
}

// Rows of two sequences, at positions that reach over pages.
static void run_heads(const char *name, uint32_t n_rows) {
    const EmulatedStage *s = kernel_stage(name, 90);
    TEST_CASE_LABEL("%s, %u rows", name, n_rows);
    TestRandom random = {n_rows};
    uint32_t d = s->head_dim, heads = s->n_heads + 2 * s->n_kv_heads, n_pages = 20;
    size_t n = (size_t)n_rows * heads * d;
    HeadsCase c = {s,
                   test_random_vector(&random, n, 0, 2),
                   {test_random_vector(&random, d, 1, 0.3f), test_random_vector(&random, d, 1, 0.3f)},
                   test_random_vector(&random, (size_t)n_rows * s->rope_dims, 0, 1),
                   0};
    Batch *batch = kernel_memory(sizeof *batch);
    batch->n_rows = n_rows;
    BatchRow *rows = kernel_memory(n_rows * sizeof *rows);
    uint32_t *pages = (uint32_t *)kernel_memory((LIST_AT + 2 * n_pages) * sizeof *pages) + LIST_AT;
    for (uint32_t i = 0; i < 2 * n_pages; i++)
        pages[i] = 2 * n_pages - 1 - i;
    for (uint32_t i = 0; i < n_rows; i++) {
        rows[i].position = i % 2 * 9 + i / 2;
        rows[i].pages = DEVICE_ADDRESS(pages - LIST_AT + i % 2 * n_pages);
    }
    size_t q_halves = (size_t)n_rows * s->n_heads * d;
    uint16_t *q = kernel_memory(q_halves * 2), *kv = kernel_memory((size_t)2 * n_pages * page_halves(s) * 2);
    RopeHeadsArgs args = {DEVICE_ADDRESS(batch),
                          DEVICE_ADDRESS(rows),
                          DEVICE_ADDRESS(c.raw),
                          {DEVICE_ADDRESS(c.norm[0]), DEVICE_ADDRESS(c.norm[1])},
                          s->rope_dims ? DEVICE_ADDRESS(c.rope) : 0,
                          DEVICE_ADDRESS(q),
                          DEVICE_ADDRESS(kv),
                          LIST_AT,
                          0};
    kernel_run(s, &args, sizeof args);
    double *expected = kernel_doubles(n);
    float *actual = kernel_memory(n * sizeof *actual);
    for (uint32_t i = 0; i < n_rows * heads; i++) {
        uint32_t row = i / heads, h = i % heads, at = rows[row].position;
        uint32_t part = h < s->n_heads ? 0 : h < s->n_heads + s->n_kv_heads ? 1 : 2;
        uint32_t kv_head = part ? (h - s->n_heads) % s->n_kv_heads : 0;
        const uint16_t *page = kv + (size_t)pages[row % 2 * n_pages + at / 16] * page_halves(s);
        reference_head(&c, row, h, expected + (size_t)i * d);
        for (uint32_t k = 0; k < d; k++) {
            actual[(size_t)i * d + k] =
                f32_from_f16(part == 0 ? q[((size_t)row * s->n_heads + h) * d + k] : 0);
            if (part > 0) actual[(size_t)i * d + k] = value_at(s, page, kv_head, part == 2, at % 16, k);
        }
    }
    kernel_check_error(expected, actual, n, s->kv_q8 ? Q8 : F16);
    // Nothing else of the cache was written.
    uint64_t written = 0;
    for (size_t i = 0; i < (size_t)2 * n_pages * page_halves(s); i++)
        written += kv[i] != 0;
    CHECK(written <= (uint64_t)n_rows * s->n_kv_heads * d * 2);
}

TEST(kernel_attention_heads_are_normed_and_turned) {
    run_heads("rope_heads_halves", 9);
    run_heads("rope_heads_halves", 2);
    run_heads("rope_heads_wide", 2);
    run_heads("rope_heads_pairs", 1);
    run_heads("rope_heads_learned", 130);
    run_heads("rope_heads_learned", 3);
    run_heads("rope_heads_halves_q8", 9);
}

// ---- attention ----

enum { POOL_PAGES = 24 };

// Sequences whose pages are some of a pool, over and over, but for those that a row's batch may have written.
typedef struct {
    const EmulatedStage *s; // heads, window
    uint16_t *pool;         // [POOL_PAGES] pages
    const float *sinks;
} TestCache;

// Rows at positions of one sequence each: all of their pages, what comes after the last row is not a number.
typedef struct {
    uint32_t sequence, position, n_rows;
} Stretch;

static uint32_t pool_page(uint32_t sequence, uint32_t page) {
    return (page * 7 + page / POOL_PAGES * 5 + sequence * 11) % POOL_PAGES;
}

// A token's largest code is 127 or -127, so that the same entry is made of its values again.
static void fill_codes(const TestCache *c, TestRandom *random) {
    uint32_t d = c->s->head_dim;
    for (uint32_t i = 0; i < POOL_PAGES * 16 * 2 * c->s->n_kv_heads; i++) {
        uint32_t token = i % 16, value = i / 16 % 2, head = i / 32 % c->s->n_kv_heads,
                 page = i / 32 / c->s->n_kv_heads;
        uint8_t *piece = piece_of(c->s, c->pool + (size_t)page * page_halves(c->s), head, value);
        float scale = 0.01f + 0.01f * fabsf(test_random_normal(random));
        uint16_t half = f16_from_f32(scale);
        memcpy(piece + layout_kv_scale_at(d, token), &half, 2);
        for (uint32_t k = 0; k < d; k++) {
            float code = fmaxf(fminf(roundf(40 * test_random_normal(random)), 127), -127);
            if (k == (i * 7) % d) code = code < 0 ? -127 : 127;
            piece[layout_kv_code_at(d, value, token, k)] = (uint8_t)((int)code + 128);
        }
    }
}

static TestCache make_cache(const EmulatedStage *s, TestRandom *random) {
    size_t n = (size_t)POOL_PAGES * page_halves(s);
    TestCache c = {s, kernel_memory(n * 2),
                   s->has_sinks ? test_random_vector(random, s->n_heads, 0, 2) : NULL};
    for (size_t i = 0; i < n && !s->kv_q8; i++)
        c.pool[i] = f16_from_f32(test_random_normal(random));
    if (s->kv_q8) fill_codes(&c, random);
    return c;
}

static float cached(const TestCache *c, uint32_t sequence, uint32_t token, uint32_t head, bool value,
                    uint32_t dim) {
    const uint16_t *page = c->pool + (size_t)pool_page(sequence, token / 16) * page_halves(c->s);
    return value_at(c->s, page, head, value, token % 16, dim);
}

// The raw query of a position of a sequence, the same in every batch, and what becomes of it (nothing is
// turned here).
static void fill_query(const EmulatedStage *s, uint32_t sequence, uint32_t position, float *raw,
                       uint16_t *q) {
    TestRandom random = {sequence * 100003ull + position};
    float scale = s->blocks > 0 ? s->score_scale * 1.44269504089f : 1;
    for (uint32_t i = 0; i < s->n_heads * s->head_dim; i++) {
        q[i] = f16_from_f32(1.5f / sqrtf((float)s->head_dim) * test_random_normal(&random));
        raw[i] = f32_from_f16(q[i]) / scale; // within a hair, so that it is rounded to the same
    }
}

static void reference_row(const TestCache *c, uint32_t sequence, uint32_t position, double *out) {
    const EmulatedStage *s = c->s;
    uint32_t d = s->head_dim, first = s->window && position + 1 > s->window ? position + 1 - s->window : 0;
    uint16_t *q = kernel_memory((size_t)s->n_heads * d * 2);
    double *scores = kernel_doubles(position + 1);
    fill_query(s, sequence, position, kernel_memory((size_t)s->n_heads * d * 4), q);
    for (uint32_t h = 0; h < s->n_heads; h++) {
        uint32_t kv_head = h / (s->n_heads / s->n_kv_heads);
        double total = c->sinks ? exp((double)c->sinks[h]) : 0;
        memset(out + h * d, 0, d * sizeof *out);
        for (uint32_t t = first; t <= position; t++) {
            scores[t] = 0;
            for (uint32_t k = 0; k < d; k++)
                scores[t] +=
                    (double)f32_from_f16(q[h * d + k]) * (double)cached(c, sequence, t, kv_head, false, k);
            scores[t] = exp2(reference_capped(scores[t], (double)s->soft_cap * 1.4426950408889634));
            total += scores[t];
            for (uint32_t k = 0; k < d; k++)
                out[h * d + k] += scores[t] * (double)cached(c, sequence, t, kv_head, true, k);
        }
        for (uint32_t k = 0; k < d; k++)
            out[h * d + k] /= total;
    }
}

// How many pages of a stretch are its own: those of its rows.
static uint32_t own_pages(const Stretch *r) {
    return (r->position + r->n_rows - 1) / 16 - r->position / 16 + 1;
}

// The list of pages of a stretch, in its row of the page table; its own pages are pages `own` … of kv. Behind
// its last row there is no number, and (`hidden`) none at its rows either, since attention is to put them
// there; and none in the page after the pool's, which is in the place of those that no row's window reaches.
static uint32_t *stretch_pages(const TestCache *c, const Stretch *r, uint16_t *kv, uint32_t own,
                               bool hidden) {
    const EmulatedStage *s = c->s;
    uint32_t last = r->position + r->n_rows - 1, n = last / 16 + 1, first = r->position / 16;
    uint32_t passed = s->window && r->position + 1 > s->window ? (r->position + 1 - s->window) / 16 : 0;
    uint32_t *pages = (uint32_t *)kernel_memory((LIST_AT + n) * sizeof *pages) + LIST_AT;
    for (uint32_t i = 0; i < passed; i++)
        pages[i] = POOL_PAGES;
    for (uint32_t i = passed; i < n; i++) {
        pages[i] = pool_page(r->sequence, i);
        if (i < first) continue;
        uint16_t *page = kv + (size_t)(own + i - first) * page_halves(s);
        memcpy(page, kv + (size_t)pages[i] * page_halves(s), page_halves(s) * 2);
        pages[i] = own + i - first;
        for (uint32_t t = 0; t < 16; t++) {
            uint32_t at = i * 16 + t;
            if (at > last || (hidden && at >= r->position)) spoil_entry(s, page, t);
        }
    }
    return pages;
}

// The raw heads of a row of a stretch: its query, key and value. q: its query as f16.
static void fill_raw(const EmulatedStage *s, const TestCache *c, const Stretch *r, uint32_t position,
                     float *raw, uint16_t *q) {
    uint32_t n_q = s->n_heads * s->head_dim, n_kv = s->n_kv_heads * s->head_dim;
    fill_query(s, r->sequence, position, raw, q);
    for (uint32_t i = 0; i < 2 * n_kv && !s->shared_kv; i++) {
        raw[n_q + i] = cached(c, r->sequence, position, i % n_kv / s->head_dim, i >= n_kv, i % s->head_dim);
    }
}

// The stretches' rows' entries are in the cache.
static void check_entries(const TestCache *c, const Stretch *r, const uint16_t *kv, const uint32_t *pages) {
    const EmulatedStage *s = c->s;
    uint32_t wrong = 0;
    for (uint32_t at = r->position; at < r->position + r->n_rows; at++) {
        const uint16_t *page = kv + (size_t)pages[at / 16] * page_halves(s);
        for (uint32_t i = 0; i < 2 * s->n_kv_heads * s->head_dim; i++) {
            uint32_t dim = i / 2 % s->head_dim, head = i / 2 / s->head_dim;
            wrong +=
                value_at(s, page, head, i % 2, at % 16, dim) != cached(c, r->sequence, at, head, i % 2, dim);
        }
    }
    CHECK_INT_EQ(0, wrong);
}

// Of a launch with two blocks a multiprocessor.
static uint32_t teams_most(const EmulatedStage *s) {
    return s->blocks * s->teams * (s->info.blocks_alone ? 2 : 1);
}

// Stretches are divided into parts of so many groups; 0: they are not. (Of the stages that take stretches.)
static uint32_t part_groups;

// Places of `partial`.
enum { STRETCH_GROUPS_MAX = 4 };

static size_t partial_floats(const EmulatedStage *s) {
    if (s->blocks == 0)
        return layout_stretch_floats(s->n_heads, s->n_kv_heads, s->head_dim, s->queries) * s->max_rows *
               (part_groups ? STRETCH_GROUPS_MAX : 1);
    return layout_attention_partial_floats(s->n_heads * s->value_parts, s->n_kv_heads * s->value_parts,
                                           s->head_dim / s->value_parts, s->max_rows, teams_most(s),
                                           s->groups_max);
}

// Gives stretches their groups and places. Divided: all, in parts, of which the first ones come first.
static void divide_stretches(Batch *batch, RowStretch *stretches) {
    uint32_t n = batch->n_stretches[0], place = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t groups = (stretches[i].position + stretches[i].n_rows - 1) / ATTENTION_GROUP_KEYS + 1;
        REQUIRE(groups <= STRETCH_GROUPS_MAX);
        stretches[i].n_groups = (uint16_t)(part_groups ? part_groups : groups);
        stretches[i].place = place;
        place += part_groups ? groups : 1;
        for (uint32_t first = part_groups; part_groups && first < groups; first += part_groups) {
            stretches[batch->n_stretches[0]] = stretches[i];
            stretches[batch->n_stretches[0]++].first_group = (uint16_t)first;
        }
    }
    batch->n_divided[0] = part_groups ? n : 0;
}

// The batch's rows as span_attention takes them, the last ones first.
static RowStretch *make_stretches(const EmulatedStage *s, Batch *batch, const BatchRow *rows) {
    uint32_t most = layout_stretch_rows(s->n_heads, s->n_kv_heads, s->queries);
    RowStretch *stretches = kernel_memory(STRETCH_GROUPS_MAX * batch->n_rows * sizeof *stretches);
    batch->n_stretches[0] = batch->n_divided[0] = 0;
    for (uint32_t end = batch->n_rows, n; end > 0; end -= n) {
        for (n = 1; n < most && n < end && rows[end - n - 1].pages == rows[end - 1].pages;)
            n++;
        const BatchRow *first = &rows[end - n];
        bool goes_on = end < batch->n_rows && rows[end].pages == first->pages;
        uint32_t last = goes_on ? stretches[batch->n_stretches[0] - 1].last : rows[end - 1].position;
        stretches[batch->n_stretches[0]++] =
            (RowStretch){first->pages, end - n, n, first->position, last, 0, 1, 0};
    }
    divide_stretches(batch, stretches);
    return stretches;
}

// Runs the stage on a batch whose rows, raw or q and kv are given: [row][heads * dim].
static float *run_attention(const EmulatedStage *s, BatchAttentionArgs args, Batch *batch,
                            const BatchRow *rows) {
    uint32_t n = s->n_heads * s->head_dim, n_meetings = layout_attention_meetings(teams_most(s));
    uint32_t n_rows = batch->n_rows;
    uint16_t *out = kernel_memory((size_t)CEIL_DIV(n, 128u) * 128 * s->max_rows * 2);
    uint32_t *meetings = kernel_memory(n_meetings * sizeof *meetings);
    if (s->blocks == 0) args.stretches = DEVICE_ADDRESS(make_stretches(s, batch, rows));
    args.batch = DEVICE_ADDRESS(batch);
    args.rows = DEVICE_ADDRESS(rows);
    args.out = DEVICE_ADDRESS(out);
    args.partial = DEVICE_ADDRESS(test_random_vector(&(TestRandom){1}, partial_floats(s), NAN, 0));
    args.meetings = DEVICE_ADDRESS(meetings);
    kernel_run(s, &args, sizeof args);
    if (part_groups && s->fold) {
        EmulatedStage fold = *s;
        fold.kernel = s->fold, fold.info = s->fold_info;
        fold.info.grid[0] = 2; // which take turns
        kernel_run(&fold, &args, sizeof args);
    }
    float *result = kernel_memory((size_t)n_rows * n * sizeof *result);
    for (size_t i = 0; i < (size_t)n_rows * n; i++)
        result[i] = activation(out, s->max_rows, (uint32_t)(i / n), (uint32_t)(i % n));
    for (uint32_t i = 0; i < n_meetings; i++)
        CHECK_INT_EQ(0, meetings[i]); // as the next launch wants them
    return result;
}

// The rows of all stretches, in their order, as one batch: [row][heads * dim].
static float *attend(const EmulatedStage *s, const TestCache *c, const Stretch *stretches,
                     uint32_t n_stretches) {
    uint32_t n = s->n_heads * s->head_dim, n_raw = n + (s->shared_kv ? 0 : 2 * s->n_kv_heads * s->head_dim);
    uint32_t n_rows = 0, n_pages = POOL_PAGES + 1;
    for (uint32_t i = 0; i < n_stretches; i++)
        n_rows += stretches[i].n_rows, n_pages += own_pages(&stretches[i]);
    REQUIRE(n_rows <= s->max_rows);
    uint16_t *kv = kernel_memory((size_t)n_pages * page_halves(s) * 2);
    memcpy(kv, c->pool, (size_t)POOL_PAGES * page_halves(s) * 2);
    memset(kv + (size_t)POOL_PAGES * page_halves(s), 0x7E, (size_t)page_halves(s) * 2); // not a number
    Batch *batch = kernel_memory(sizeof *batch);
    BatchRow *rows = kernel_memory(n_rows * sizeof *rows);
    uint16_t *q = kernel_memory((size_t)n_rows * n * 2);
    float *raw = kernel_memory((size_t)n_rows * n_raw * sizeof *raw);
    uint32_t **pages = kernel_memory(n_stretches * sizeof *pages);
    for (uint32_t i = 0, own = POOL_PAGES + 1; i < n_stretches; own += own_pages(&stretches[i++])) {
        pages[i] = stretch_pages(c, &stretches[i], kv, own, s->blocks > 0 && !s->shared_kv);
        for (uint32_t k = 0; k < stretches[i].n_rows; k++) {
            uint32_t row = batch->n_rows++;
            rows[row] = (BatchRow){.position = stretches[i].position + k,
                                   .pages = DEVICE_ADDRESS(pages[i] - LIST_AT)};
            fill_raw(s, c, &stretches[i], rows[row].position, raw + (size_t)row * n_raw, q + (size_t)row * n);
        }
    }
    BatchAttentionArgs args = {.raw = DEVICE_ADDRESS(raw),
                               .q = DEVICE_ADDRESS(q),
                               .kv = DEVICE_ADDRESS(kv),
                               .list_at = LIST_AT,
                               .sinks = DEVICE_ADDRESS(c->sinks)};
    float *result = run_attention(s, args, batch, rows);
    for (uint32_t i = 0; i < n_stretches; i++)
        check_entries(c, &stretches[i], kv, pages[i]);
    return result;
}

static void check_rows(const TestCache *c, const Stretch *stretches, uint32_t n_stretches,
                       const float *actual) {
    uint32_t n = c->s->n_heads * c->s->head_dim;
    double *expected = kernel_doubles(n);
    for (uint32_t i = 0; i < n_stretches; i++) {
        for (uint32_t k = 0; k < stretches[i].n_rows; k++, actual += n) {
            reference_row(c, stretches[i].sequence, stretches[i].position + k, expected);
            kernel_check_error(expected, actual, n, F16);
        }
    }
}

// Rows of many sequences in one batch against the formula, and each of them alone.
static void run_rows(const char *name, unsigned sm_arch, const uint32_t *positions, uint32_t n_rows) {
    const EmulatedStage *s = kernel_stage(name, sm_arch);
    TEST_CASE_LABEL("%s sm_%u, %u rows, the first at %u", name, sm_arch, n_rows, positions[0]);
    TestRandom random = {n_rows};
    TestCache c = make_cache(s, &random);
    Stretch *rows = kernel_memory(n_rows * sizeof *rows);
    for (uint32_t i = 0; i < n_rows; i++)
        rows[i] = (Stretch){i, positions[i], 1};
    const float *together = attend(s, &c, rows, n_rows);
    check_rows(&c, rows, n_rows, together);
    size_t row_bytes = (size_t)s->n_heads * s->head_dim * sizeof(float);
    for (uint32_t i = 0; i < n_rows; i++)
        CHECK_BYTES_EQ(together + i * (row_bytes / 4), row_bytes, attend(s, &c, rows + i, 1), row_bytes);
}

#define POSITIONS(...) (const uint32_t[]){__VA_ARGS__}, COUNT_OF(((const uint32_t[]){__VA_ARGS__}))

TEST_SLOW(kernel_attention_of_rows, 300) {
    run_rows("batch_attention_7x64", 90, POSITIONS(0, 1, 63, 64, 127, 128, 200, 5));
    run_rows("batch_attention_7x64", 80, POSITIONS(300, 0, 17));
    run_rows("batch_attention_7x64", 75, POSITIONS(300, 0, 17));
    run_rows("batch_attention_5x80", 90, POSITIONS(140, 63));
    run_rows("batch_attention_1x96", 90, POSITIONS(0, 129));
    run_rows("batch_attention_2x256", 90, POSITIONS(150, 2, 64));
    run_rows("batch_attention_2x256", 75, POSITIONS(150, 2, 64));
    run_rows("attention_clusters_2x256_parts", 90, POSITIONS(150, 2, 64));
    run_rows("attention_shared_2x256", 90, POSITIONS(150, 2));
    run_rows("attention_shared_7x64_q8", 90, POSITIONS(140, 2));
    run_rows("batch_attention_4x512", 90, POSITIONS(70, 2));
    run_rows("batch_attention_5x80_q8", 75, POSITIONS(140, 63));
    run_rows("batch_attention_7x64_q8", 90, POSITIONS(300, 0, 17, 64));
    run_rows("batch_attention_20x16", 90, POSITIONS(2100, 0, 1023, 1024, 1025, 900, 3, 2047));
    run_rows("batch_attention_window", 90,
             POSITIONS(0, 148, 149, 150, 151, 213, 277, 1100, 1173, 1174, 1175));
}

// ---- the same bits ----

// A prompt's rows, cut in two ways, as one batch of attention.cuh and one by one: all of them the same.
static void run_spans(const char *shape, unsigned sm_arch, uint32_t position, uint32_t n_rows, uint32_t cut) {
    char name[64];
    snprintf(name, sizeof name, "span_attention_%s", shape);
    const EmulatedStage *span = kernel_stage(name, sm_arch);
    snprintf(name, sizeof name, "batch_attention_%s", shape);
    const EmulatedStage *batch = kernel_stage(name, sm_arch);
    TEST_CASE_LABEL("%s sm_%u, %u rows at %u, cut after %u", shape, sm_arch, n_rows, position, cut);
    TestRandom random = {position + n_rows};
    TestCache c = make_cache(span, &random);
    uint32_t n = span->n_heads * span->head_dim;
    size_t row_bytes = n * sizeof(float);
    Stretch all = {3, position, n_rows}, head = {3, position, cut}, tail = {3, position + cut, n_rows - cut};
    const float *whole = attend(span, &c, &all, 1);
    CHECK_BYTES_EQ(whole, cut * row_bytes, attend(span, &c, &head, 1), cut * row_bytes);
    CHECK_BYTES_EQ(whole + (size_t)cut * n, (n_rows - cut) * row_bytes, attend(span, &c, &tail, 1),
                   (n_rows - cut) * row_bytes);
    for (uint32_t first = 0; first < n_rows; first += batch->max_rows) {
        Stretch part = {3, position + first, MIN(batch->max_rows, n_rows - first)};
        CHECK_BYTES_EQ(whole + (size_t)first * n, part.n_rows * row_bytes, attend(batch, &c, &part, 1),
                       part.n_rows * row_bytes);
    }
    Stretch ends[2] = {{3, position, 1}, {3, position + n_rows - 1, 1}};
    check_rows(&c, &ends[0], 1, whole);
    check_rows(&c, &ends[1], 1, whole + (size_t)(n_rows - 1) * n);
}

TEST_SLOW(kernel_attention_of_spans, 300) {
    run_spans("7x64", 90, 120, 12, 8);
    run_spans("7x64", 80, 120, 12, 8);
    run_spans("7x64", 75, 120, 12, 8);
    run_spans("5x80", 90, 120, 10, 1);
    run_spans("5x80_q8", 75, 120, 10, 1);
    run_spans("7x64_q8", 90, 120, 12, 8);
    run_spans("1x96", 90, 60, 6, 5);
    run_spans("2x256", 90, 126, 6, 2);
    run_spans("2x256", 75, 126, 6, 2);
    run_spans("4x512", 90, 126, 3, 1);
    run_spans("20x16", 90, 1020, 12, 4);
    run_spans("20x16", 90, 2044, 9, 4);
    run_spans("window", 90, 0, 2, 1);
    run_spans("window", 90, 140, 80, 64);
    run_spans("window", 90, 1020, 10, 4);
}

// Rows of several sequences, some of them a row each, in one batch: what each stretch gives alone.
static void run_mixed(const char *shape, unsigned sm_arch, const Stretch *stretches, uint32_t n_stretches) {
    char name[64];
    snprintf(name, sizeof name, "span_attention_%s", shape);
    const EmulatedStage *s = kernel_stage(name, sm_arch);
    TestRandom random = {n_stretches};
    TestCache c = make_cache(s, &random);
    size_t n = s->n_heads * s->head_dim;
    const float *together = attend(s, &c, stretches, n_stretches);
    check_rows(&c, stretches, 1, together);
    for (uint32_t i = 0; i < n_stretches; together += stretches[i++].n_rows * n) {
        TEST_CASE_LABEL("%s sm_%u, %u stretches, that at %u", shape, sm_arch, n_stretches,
                        stretches[i].position);
        size_t bytes = stretches[i].n_rows * n * sizeof(float);
        CHECK_BYTES_EQ(together, bytes, attend(s, &c, &stretches[i], 1), bytes);
    }
}

#define STRETCHES(...) (const Stretch[]){__VA_ARGS__}, COUNT_OF(((const Stretch[]){__VA_ARGS__}))

// The last of each shape has more tasks than blocks.
TEST_SLOW(kernel_attention_of_several_spans, 300) {
    run_mixed("7x64", 90, STRETCHES({0, 120, 12}, {1, 0, 1}, {2, 63, 10}, {3, 300, 1}));
    run_mixed("7x64", 80, STRETCHES({0, 120, 12}, {1, 0, 1}, {2, 63, 10}, {3, 300, 1}));
    run_mixed("7x64", 75, STRETCHES({0, 120, 12}, {1, 0, 1}, {2, 63, 10}, {3, 300, 1}));
    run_mixed("7x64", 90,
              STRETCHES({0, 5, 1}, {1, 64, 2}, {2, 63, 1}, {3, 130, 1}, {4, 0, 1}, {5, 127, 1}, {6, 128, 2},
                        {7, 15, 1}, {8, 16, 1}, {9, 70, 1}, {10, 31, 1}, {11, 190, 1}, {12, 1, 1}, {13, 2, 3},
                        {14, 3, 1}, {15, 4, 1}, {16, 200, 1}));
    run_mixed("1x96", 90, STRETCHES({0, 60, 5}, {1, 0, 1}, {2, 130, 1}, {3, 64, 2}, {4, 7, 1}));
    run_mixed("20x16", 90, STRETCHES({0, 1020, 7}, {1, 2047, 1}, {2, 0, 3}, {3, 1023, 1}));
    run_mixed("2x256", 75, STRETCHES({0, 126, 3}, {1, 0, 1}, {2, 1024, 1}));
    run_mixed("2x256_small", 90, STRETCHES({0, 126, 3}, {1, 0, 1}, {2, 1024, 1}));
    run_mixed("window", 90, STRETCHES({0, 0, 2}, {1, 140, 80}, {2, 1100, 1}, {3, 149, 1}));
    run_mixed("window", 90,
              STRETCHES({0, 0, 2}, {1, 1020, 10}, {2, 150, 1}, {3, 64, 1}, {4, 277, 1}, {5, 1174, 1}));
}

// Products of four warps give the bits of those of one: the same stretches by both bodies.
static void run_by(const char *body, const char *shape, const Stretch *stretches, uint32_t n_stretches) {
    char name[64];
    snprintf(name, sizeof name, "span_attention_%s", shape);
    const EmulatedStage *span = kernel_stage(name, 90);
    snprintf(name, sizeof name, "span_%s_%s", body, shape);
    const EmulatedStage *wgmma = kernel_stage(name, 90);
    TEST_CASE_LABEL("%s, %u stretches, the first at %u", shape, n_stretches, stretches[0].position);
    TestRandom random = {stretches[0].position};
    TestCache c = make_cache(span, &random);
    size_t n = (size_t)span->n_heads * span->head_dim, n_rows = 0;
    for (uint32_t i = 0; i < n_stretches; i++)
        n_rows += stretches[i].n_rows;
    const float *out = attend(wgmma, &c, stretches, n_stretches);
    size_t bytes = n_rows * n * sizeof(float);
    CHECK_BYTES_EQ(attend(span, &c, stretches, n_stretches), bytes, out, bytes);
    Stretch first = {stretches[0].sequence, stretches[0].position, 1};
    check_rows(&c, &first, 1, out);
}
static void run_wgmma(const char *shape, const Stretch *stretches, uint32_t n_stretches) {
    run_by("wgmma", shape, stretches, n_stretches);
}
static void run_wide(const char *shape, const Stretch *stretches, uint32_t n_stretches) {
    run_by("wide", shape, stretches, n_stretches);
}

TEST_SLOW(kernel_attention_of_spans_by_wgmma, 300) {
    run_wgmma("4x128", STRETCHES({0, 0, 1}));
    run_wgmma("4x128", STRETCHES({0, 110, 40}, {1, 0, 1}, {2, 127, 1}));
    run_wgmma("4x128", STRETCHES({0, 2040, 12}));
    run_wgmma("7x64", STRETCHES({0, 120, 12}, {1, 0, 1}, {2, 63, 10}, {3, 300, 1}));
    run_wgmma("1x96", STRETCHES({0, 60, 130}));
    run_wgmma("2x256", STRETCHES({0, 126, 3}, {1, 0, 1}, {2, 1024, 1}));
    run_wgmma("window", STRETCHES({0, 0, 2}, {1, 140, 80}, {2, 1100, 1}, {3, 149, 1}));
    run_wgmma("window", STRETCHES({1, 1020, 10}, {5, 1174, 1}));
    run_wgmma("4x128_q8", STRETCHES({0, 110, 40}, {1, 0, 1}, {2, 127, 1}));
    run_wgmma("4x128_q8", STRETCHES({0, 2040, 12}));
    run_wgmma("1x96_q8", STRETCHES({0, 60, 130}));
    run_wgmma("2x256_q8", STRETCHES({0, 126, 3}, {1, 0, 1}, {2, 1024, 1}));
    run_wgmma("window_q8", STRETCHES({0, 0, 2}, {1, 140, 80}, {2, 1100, 1}, {3, 149, 1}));
}

// Queries as columns: a block without queries, stretches of more than one block's, more tasks than clusters;
// splits of one tile and of two, and groups that rows do not see.
TEST_SLOW(kernel_attention_of_wide_spans_by_wgmma, 300) {
    run_wide("4x512", STRETCHES({0, 0, 1}));
    run_wide("4x512", STRETCHES({0, 110, 23}, {1, 0, 1}, {2, 127, 2}, {3, 191, 1}));
    run_wide("4x512", STRETCHES({1, 1015, 12}));
    run_wide("4x512", STRETCHES({2, 2047, 2}));
    run_wide("3x512", STRETCHES({0, 60, 28}, {1, 300, 1}));
    run_wide("8x512", STRETCHES({0, 60, 13}, {1, 126, 3}));
}

// Stretches in parts of a group of keys each, and of up to n_groups, give the bits of those that are whole;
// also where a window leaves parts without keys, or lies in one.
static void run_parts(const char *name, unsigned sm_arch, const Stretch *stretches, uint32_t n_stretches,
                      uint32_t n_groups) {
    const EmulatedStage *s = kernel_stage(name, sm_arch);
    TestRandom random = {stretches[0].position};
    TestCache c = make_cache(s, &random);
    size_t n_rows = 0;
    for (uint32_t i = 0; i < n_stretches; i++)
        n_rows += stretches[i].n_rows;
    size_t bytes = n_rows * s->n_heads * s->head_dim * sizeof(float);
    const float *whole = attend(s, &c, stretches, n_stretches);
    for (part_groups = 1; part_groups <= n_groups; part_groups++) {
        TEST_CASE_LABEL("%s sm_%u, parts of %u, the first at %u", name, sm_arch, part_groups,
                        stretches[0].position);
        CHECK_BYTES_EQ(whole, bytes, attend(s, &c, stretches, n_stretches), bytes);
    }
    part_groups = 0;
}

TEST_SLOW(kernel_attention_of_spans_in_parts, 300) {
    run_parts("span_wgmma_1x96", 90, STRETCHES({0, 960, 70}), 1); // a team sees nothing of the second
    run_parts("span_wgmma_2x256", 90, STRETCHES({0, 1022, 3}), 1);
    run_parts("span_wgmma_2x256_q8", 90, STRETCHES({0, 1022, 3}), 1);
    run_parts("span_wgmma_window", 90, STRETCHES({0, 1020, 10}, {1, 1100, 1}, {2, 1174, 3}, {3, 2045, 6}), 2);
    run_parts("span_attention_7x64", 75, STRETCHES({0, 1020, 5}, {1, 0, 1}), 1);
    run_parts("span_attention_7x64_q8", 90, STRETCHES({0, 1020, 5}), 1);
    run_parts("span_attention_20x16", 90, STRETCHES({0, 2040, 12}, {1, 3000, 1}, {2, 0, 3}), 2);
    run_parts("span_attention_4x512", 80, STRETCHES({0, 1023, 2}), 1);
    run_parts("span_wide_4x512", 90, STRETCHES({0, 1020, 15}, {1, 2047, 2}, {2, 0, 1}), 2);
    run_parts("span_attention_window", 90, STRETCHES({0, 1020, 10}, {1, 1100, 1}, {3, 2045, 6}), 1);
}

// As the host launches it where clusters gain nothing.
static const EmulatedStage *without_clusters(const EmulatedStage *s, uint32_t blocks) {
    EmulatedStage *alone = kernel_memory(sizeof *alone);
    *alone = *s;
    alone->info.cluster = 0;
    alone->info.grid[0] = blocks * s->info.blocks_alone;
    return alone;
}

// However the splits are spread over blocks, and on each GPU.
TEST_SLOW(kernel_attention_same_bits_however_it_is_spread, 300) {
    static const struct {
        const char *name, *other;
        unsigned sm_arch, other_arch;
        uint32_t position;
    } rows[] = {
        {"batch_attention_7x64", "batch_attention_7x64_one", 90, 90, 1100},
        {"batch_attention_7x64", "batch_attention_7x64_parts", 90, 90, 1100},
        {"batch_attention_7x64", "batch_attention_7x64_parts", 90, 90, 2050},
        {"batch_attention_7x64", "batch_attention_7x64", 90, 80, 700},
        {"batch_attention_7x64", "batch_attention_7x64", 90, 75, 150},
        {"batch_attention_7x64", "span_attention_7x64", 90, 80, 1025},
        {"batch_attention_20x16", "batch_attention_20x16_wide", 90, 90, 3000},
        {"batch_attention_2x256", "batch_attention_2x256", 90, 75, 300},
        {"batch_attention_2x256", "span_attention_2x256", 90, 75, 1030},
        {"batch_attention_2x256", "span_attention_2x256", 90, 90, 1030},
        {"batch_attention_2x256", "span_attention_2x256_small", 90, 90, 200},
        {"batch_attention_2x256", "attention_clusters_2x256", 90, 90, 600},
        {"batch_attention_2x256", "attention_clusters_2x256", 90, 90, 1030},
        {"batch_attention_2x256", "attention_clusters_2x256", 90, 90, 2050}, // more groups than clusters
        {"batch_attention_2x256", "attention_clusters_2x256_parts", 90, 90, 100},
        {"batch_attention_2x256", "attention_clusters_2x256_parts", 90, 90, 600},
        {"batch_attention_2x256", "attention_clusters_2x256_parts", 90, 90, 2050},
        {"batch_attention_4x512", "attention_clusters_4x512_parts", 90, 90, 100},
        {"batch_attention_4x512", "attention_clusters_4x512_parts", 90, 90, 300},
        {"batch_attention_4x512", "attention_clusters_4x512_parts", 90, 90, 1030},
        {"batch_attention_4x512", "batch_attention_4x512", 90, 80, 300},
        {"batch_attention_4x512", "span_attention_4x512", 90, 80, 300},
        {"batch_attention_4x512", "span_attention_4x512", 90, 90, 1030},
        {"batch_attention_4x512", "span_wide_4x512", 90, 90, 1030},
        {"batch_attention_7x64_q8", "span_attention_7x64_q8", 90, 90, 1030},
        {"batch_attention_20x16", "attention_clusters_20x16", 90, 90, 3000},
        {"batch_attention_window", "attention_clusters_window", 90, 90, 1100},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s sm_%u at %u", rows[i].name, rows[i].sm_arch, rows[i].position);
        const EmulatedStage *s = kernel_stage(rows[i].name, rows[i].sm_arch);
        TestRandom random = {5};
        TestCache c = make_cache(s, &random);
        Stretch row = {1, rows[i].position, 1};
        size_t bytes = (size_t)s->n_heads * s->head_dim * sizeof(float);
        const EmulatedStage *other = kernel_stage(rows[i].other, rows[i].other_arch);
        const float *out = attend(s, &c, &row, 1);
        CHECK_BYTES_EQ(out, bytes, attend(other, &c, &row, 1), bytes);
        for (uint32_t blocks = 1; other->info.blocks_alone && blocks <= 2; blocks++)
            CHECK_BYTES_EQ(out, bytes, attend(without_clusters(other, blocks), &c, &row, 1), bytes);
        check_rows(&c, &row, 1, out);
    }
}

// ---- heads that attention turns by itself ----

// Raw heads of rows at positions one after the other through rope_heads and span_attention, and through
// attention: the same results and the same cache.
static void run_turned(const char *name, uint32_t position, uint32_t n_rows) {
    enum { PAGES = 140 };
    const EmulatedStage *s = kernel_stage(name, 90);
    const EmulatedStage *heads = kernel_stage(s->kv_q8 ? "rope_heads_halves_q8" : "rope_heads_halves", 90);
    const EmulatedStage *span =
        kernel_stage(s->kv_q8 ? "span_attention_4x128_q8" : "span_attention_4x128", 90);
    TEST_CASE_LABEL("%s, %u rows at %u", name, n_rows, position);
    TestRandom random = {position};
    uint32_t d = s->head_dim, n_heads = s->n_heads + 2 * s->n_kv_heads;
    size_t n_kv = (size_t)PAGES * page_halves(s), n = (size_t)s->n_heads * d;
    uint16_t *kv[2] = {kernel_memory(n_kv * 2), kernel_memory(n_kv * 2)}, *q = kernel_memory(n_rows * n * 2);
    for (size_t i = 0; i < n_kv; i++)
        kv[0][i] = kv[1][i] = f16_from_f32(test_random_normal(&random));
    Batch *batch = kernel_memory(sizeof *batch);
    BatchRow *rows = kernel_memory(n_rows * sizeof *rows);
    uint32_t *pages = kernel_memory(PAGES * sizeof *pages);
    batch->n_rows = n_rows;
    for (uint32_t i = 0; i < PAGES; i++)
        pages[i] = PAGES - 1 - i;
    for (uint32_t i = 0; i < n_rows; i++)
        rows[i] = (BatchRow){.position = position + i, .pages = DEVICE_ADDRESS(pages)};
    float *raw = test_random_vector(&random, (size_t)n_rows * n_heads * d, 0, 2),
          *norm[2] = {test_random_vector(&random, d, 1, 0.3f), test_random_vector(&random, d, 1, 0.3f)},
          *rope = test_random_vector(&random, (size_t)n_rows * heads->rope_dims, 0, 1);
    RopeHeadsArgs turn = {DEVICE_ADDRESS(batch),
                          DEVICE_ADDRESS(rows),
                          DEVICE_ADDRESS(raw),
                          {DEVICE_ADDRESS(norm[0]), DEVICE_ADDRESS(norm[1])},
                          DEVICE_ADDRESS(rope),
                          DEVICE_ADDRESS(q),
                          DEVICE_ADDRESS(kv[0]),
                          0,
                          0};
    kernel_run(heads, &turn, sizeof turn);
    BatchAttentionArgs args = {.q = DEVICE_ADDRESS(q), .kv = DEVICE_ADDRESS(kv[0])};
    const float *expected = run_attention(span, args, batch, rows);
    args = (BatchAttentionArgs){.raw = DEVICE_ADDRESS(raw),
                                .norm = {DEVICE_ADDRESS(norm[0]), DEVICE_ADDRESS(norm[1])},
                                .rope = DEVICE_ADDRESS(rope),
                                .kv = DEVICE_ADDRESS(kv[1])};
    CHECK_BYTES_EQ(expected, n_rows * n * 4, run_attention(s, args, batch, rows), n_rows * n * 4);
    CHECK_BYTES_EQ(kv[0], n_kv * 2, kv[1], n_kv * 2);
    for (uint32_t blocks = 1; s->info.blocks_alone && blocks <= 2; blocks++) {
        const float *alone = run_attention(without_clusters(s, blocks), args, batch, rows);
        CHECK_BYTES_EQ(expected, n_rows * n * 4, alone, n_rows * n * 4);
    }
}

TEST_SLOW(kernel_attention_turns_heads_as_their_own_stage_does, 300) {
    run_turned("batch_attention_4x128", 120, 9);
    run_turned("batch_attention_4x128", 300, 1);
    run_turned("attention_clusters_4x128", 40, 1);
    run_turned("attention_clusters_4x128", 1020, 1);
    run_turned("attention_clusters_4x128_q8", 40, 1);
    run_turned("attention_clusters_4x128_q8", 300, 1);
    run_turned("attention_clusters_4x128", 2070, 1);
    run_turned("attention_clusters_4x128_q8", 2120, 1);
}
