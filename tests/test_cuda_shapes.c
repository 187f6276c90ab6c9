// How products of more than 8 rows are spread over GPUs (src/backend/cuda/batch_shapes_many.c).
#include "runner.h"

#if WORKER_ORCD_CUDA

#include "backend/cuda/lower_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const LowerTarget targets[] = {
    {90, 132, 227 << 10, 228 << 10},
    {89, 128, 99 << 10, 100 << 10},
    {80, 108, 163 << 10, 164 << 10},
    {75, 40, 64 << 10, 64 << 10},
};

// The value of a define in a program's text; `absent` where there is none.
static uint32_t defined_or(const char *text, const char *name, uint32_t absent) {
    char line[64];
    snprintf(line, sizeof line, "#define %s ", name);
    const char *at = strstr(text, line);
    return at ? (uint32_t)strtoul(at + strlen(line), NULL, 10) : absent;
}
static uint32_t defined(const char *text, const char *name) {
    if (defined_or(text, name, UINT32_MAX) == UINT32_MAX) FAIL("no %s", name);
    return defined_or(text, name, 0);
}

typedef struct {
    uint32_t tile_rows, warps, ways_block, ways_cluster, passes, blocks, ring_bytes, blocks_per_sm;
} Defines;

static Defines defines_of(const LowerTarget *t, const ProductSize *p, uint32_t max_rows, bool small) {
    char text[512];
    StrBuf b = STRBUF(text);
    product_define_many(&b, t, p, max_rows, small);
    REQUIRE(!b.truncated);
    text[b.len] = 0;
    return (Defines){defined(text, "TILE_ROWS"),    defined(text, "WARPS"),
                     defined(text, "K_WAYS_BLOCK"), defined(text, "K_WAYS_CLUSTER"),
                     defined(text, "PASSES"),       defined(text, "BLOCKS"),
                     defined(text, "RING_BYTES"),   defined_or(text, "BLOCKS_PER_SM", 1)};
}

TEST(cuda_shapes_of_many_rows_are_those_that_were_measured) {
    static const Weight q4_k = {.dtype = DTYPE_Q4_K};
    static const struct {
        const char *label;
        uint32_t n_cols, units, unit_bands, max_rows;
        uint32_t tile_rows, warps, ways_block, ways_cluster;
    } rows[] = {
        {"gate and up of 8B", 4096, 896, 2, 16, 16, 16, 1, 1},
        {"gate and up of 8B", 4096, 896, 2, 64, 64, 16, 1, 1},
        {"gate and up of 8B", 4096, 896, 2, 128, 128, 8, 1, 1},
        {"attention output of 8B", 4096, 256, 1, 32, 32, 8, 2, 2},
        {"q k v of 8B", 4096, 384, 1, 32, 32, 4, 1, 2},
        {"q k v of 8B", 4096, 384, 1, 64, 64, 8, 1, 2},
        {"down of 8B", 14336, 256, 1, 64, 64, 8, 2, 2},
        {"down of 8B, a prompt", 14336, 256, 1, 2048, 128, 8, 1, 1},
        {"output of a small model", 1024, 56, 1, 64, 64, 4, 1, 4},
        {"down of a small model", 4864, 56, 1, 16, 16, 4, 1, 7},
        {"down of 1B", 8192, 128, 1, 64, 64, 8, 2, 3},
        {"gate and up of a small model", 896, 304, 2, 32, 32, 8, 1, 1},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s, %u rows", rows[i].label, rows[i].max_rows);
        ProductSize p = {.n_cols = rows[i].n_cols,
                         .units = rows[i].units,
                         .unit_bands = rows[i].unit_bands,
                         .weights = {&q4_k},
                         .n_weights = 1};
        Defines d = defines_of(&targets[0], &p, rows[i].max_rows, false);
        CHECK_INT_EQ(rows[i].tile_rows, d.tile_rows);
        CHECK_INT_EQ(rows[i].warps, d.warps);
        CHECK_INT_EQ(rows[i].ways_block, d.ways_block);
        CHECK_INT_EQ(rows[i].ways_cluster, d.ways_cluster);
    }
}

// What product_many.cuh asserts, and that two slots of both rings fit.
static void check_shape(const LowerTarget *t, const ProductSize *p, uint32_t max_rows, bool small) {
    Defines d = defines_of(t, p, max_rows, small);
    CHECK(!small || d.tile_rows <= 64);
    uint32_t bands = d.warps / d.ways_block, group = t->sm == 90 ? 4 : 1,
             ways = d.ways_block * d.ways_cluster;
    CHECK(d.warps >= 1 && d.warps <= 16 && d.warps % d.ways_block == 0);
    CHECK(bands % (p->unit_bands * group) == 0);
    CHECK(max_rows % d.tile_rows == 0 && d.tile_rows % 16 == 0);
    CHECK(ways <= product_segments(p->n_cols));
    CHECK(t->sm == 90 || d.ways_cluster == 1);
    if (d.ways_cluster > 1) { // all clusters run at once
        uint32_t passes = (uint32_t)div_up(p->units * p->unit_bands, bands);
        passes = passes > d.passes ? passes : d.passes;
        CHECK(passes * d.ways_cluster <=
              d.blocks_per_sm * t->multiprocessors * (d.ways_cluster > 2 ? 10 : 11) / 11);
    }
    CHECK(d.blocks >= 1 && d.blocks <= t->multiprocessors && d.passes >= 1);
    int format = (int)p->weights[0]->dtype;
    uint32_t chunk = layout_tile_bytes16(format) * (256 / layout_tile_cols(format));
    uint64_t sums = ways == 1 && p->unit_bands == 2 ? bands / 2 * min_u64(d.tile_rows, 32) * 64 : 0;
    uint64_t parts =
        ways == 1 ? 0
                  : div_up(product_segments(p->n_cols), ways) * d.ways_block * bands * d.tile_rows * 64ull;
    CHECK(d.ring_bytes >= 2ull * (d.warps * chunk + d.ways_block * d.tile_rows * 256ull));
    CHECK(d.blocks_per_sm * (d.ring_bytes + sums + parts + 2048) <= t->shared_bytes_multiprocessor);
    CHECK(d.ring_bytes + sums + parts + 2048 <= t->shared_bytes_block);
    if (p->is_head && !small) CHECK_INT_EQ(d.blocks, product_blocks_many(t, p, max_rows));
}

TEST(cuda_shapes_of_many_rows_fit_every_gpu) {
    static const uint32_t cols[] = {64, 896, 2048, 4096, 14336, 28672}, units[] = {1, 3, 56, 384, 1792, 9500},
                          max_rows[] = {16, 32, 64, 128, 2048};
    static const Dtype formats[] = {DTYPE_Q4_K, DTYPE_Q6_K, DTYPE_Q8_0, DTYPE_F16};
    for (size_t i = 0; i < COUNT_OF(targets) * COUNT_OF(formats) * COUNT_OF(cols) * COUNT_OF(units); i++) {
        const LowerTarget *t = &targets[i % COUNT_OF(targets)];
        Weight w = {.dtype = formats[i / COUNT_OF(targets) % COUNT_OF(formats)]};
        size_t k = i / COUNT_OF(targets) / COUNT_OF(formats);
        for (size_t r = 0; r < COUNT_OF(max_rows) * 3; r++) {
            uint32_t rows = max_rows[r / 3];
            ProductSize p = {.n_cols = cols[k % COUNT_OF(cols)],
                             .units = units[k / COUNT_OF(cols)],
                             .unit_bands = r % 3 == 1 ? 2 : 1,
                             .weights = {&w},
                             .n_weights = 1,
                             .is_head = r % 3 == 2 && rows <= 128};
            TEST_CASE_LABEL("sm_%u, %s, %u columns, %u units of %u, %u rows", t->sm,
                            dtype_info(w.dtype)->name, p.n_cols, p.units, p.unit_bands, rows);
            check_shape(t, &p, rows, false);
            check_shape(t, &p, rows, true);
        }
    }
}

#else

TEST(cuda_shapes) {
    SKIP("this build has no CUDA");
}

#endif
