// How products of few rows are spread over a GPU: that the kernel's rules hold for every size, format and
// GPU, and what the usual sizes get.
#include "runner.h"

#if WORKER_ORCD_CUDA

#include "backend/cuda/lower_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    uint32_t blocks, warps, k_ways, k_blocks, flight, ring, least, per_sm, clusters;
} Shape;

static uint32_t defined(const char *text, const char *name, uint32_t absent) {
    char line[64];
    snprintf(line, sizeof line, "#define %s ", name);
    const char *at = strstr(text, line);
    return at ? (uint32_t)strtoul(at + strlen(line), NULL, 10) : absent;
}

static Shape shape_of(const LowerTarget *t, const ProductSize *p, uint32_t rows) {
    char text[1024];
    StrBuf b = STRBUF(text);
    product_define_few(&b, t, p, rows);
    CHECK(!b.truncated);
    return (Shape){defined(text, "BLOCKS", 0),           defined(text, "WARPS", 0),
                   defined(text, "K_WAYS", 0),           defined(text, "K_BLOCKS", 1),
                   defined(text, "FLIGHT", 0),           defined(text, "RING_BYTES", 0),
                   defined(text, "SHARED_BYTES_MIN", 0), defined(text, "BLOCKS_PER_SM", 0),
                   defined(text, "CLUSTERS", 0)};
}

static ProductSize size_of(const Weight *w, uint32_t n_rows, uint32_t n_cols, uint32_t bands, bool norm) {
    return (ProductSize){.n_cols = n_cols,
                         .units = (uint32_t)div_up(n_rows, 16),
                         .unit_bands = bands,
                         .weights = {w, w, w},
                         .n_weights = 3,
                         .has_norm = norm,
                         .adds = !norm};
}

// What product_few.cuh asserts, and that it fits a block.
static void check_rules(const LowerTarget *t, const ProductSize *p, uint32_t rows) {
    Shape s = shape_of(t, p, rows);
    int format = (int)p->weights[0]->dtype;
    uint32_t chunks = (uint32_t)div_up(p->n_cols, 256), per_segment = (uint32_t)div_up(chunks, 8);
    uint32_t segments = (uint32_t)div_up(chunks, per_segment), ways = s.k_ways * s.k_blocks;
    REQUIRE(s.blocks > 0 && s.warps > 0 && s.k_ways > 0);
    CHECK_U64_EQ(0, s.warps % (s.k_ways * p->unit_bands));
    CHECK(s.warps <= 31 && ways <= segments && s.blocks <= t->multiprocessors);
    CHECK_U64_EQ(0, s.blocks % s.k_blocks);
    CHECK(!p->has_norm || rows > 1 || s.k_blocks == 1);
    uint64_t units = div_up(p->units, s.blocks / s.k_blocks), side = s.warps / s.k_ways / p->unit_bands;
    uint64_t passes = div_up(units, side), slot = s.warps * (uint64_t)layout_tile_bytes16(format);
    uint64_t steps = passes * div_up(segments, ways) * per_segment * (256 / layout_tile_cols(format));
    CHECK(s.ring / slot >= min_u64(2, steps) && s.flight >= 2);
    CHECK(!s.clusters || (passes == 1 && s.k_blocks > 1 && s.k_blocks <= 8));
    uint64_t x = div_up(segments, s.k_blocks) * per_segment * 512 * rows;
    CHECK(x + s.ring <= t->shared_bytes_block && s.least <= t->shared_bytes_block);
    uint64_t shared = max_u64(x + s.ring, s.least) + 1024;
    CHECK(s.per_sm == 1 || 2 * shared <= t->shared_bytes_multiprocessor + 4096ull);
}

TEST(cuda_batch_shapes_keep_the_kernels_rules) {
    static const uint32_t cols[] = {64, 288, 896, 2048, 2880, 4096, 4864, 8192, 14336, 28672};
    static const uint32_t rows[] = {16, 130, 896, 1152, 4096, 14336, 151936}, sm[] = {75, 80, 86, 89, 90};
    for (Dtype d = 0; d < DTYPE_COUNT; d++) {
        Weight w = {.dtype = d};
        for (uint32_t i = 0; i < COUNT_OF(cols) * COUNT_OF(rows) * COUNT_OF(sm) * 8; i++) {
            uint32_t n_cols = cols[i / 8 % COUNT_OF(cols)],
                     n_rows = rows[i / 8 / COUNT_OF(cols) % COUNT_OF(rows)];
            LowerTarget t = lower_target_of_sm(sm[i / 8 / COUNT_OF(cols) / COUNT_OF(rows)]);
            uint32_t max_rows = i % 2 ? 8 : 1;
            ProductSize p = size_of(&w, n_rows, n_cols, 1 + i / 2 % 2, i / 4 % 2);
            TEST_CASE_LABEL("%s, %u x %u, %u bands, norm %d, %u rows, sm_%u", dtype_info(d)->name, n_rows,
                            n_cols, p.unit_bands, p.has_norm, max_rows, t.sm);
            bool fits = product_fits_few(&t, &p, max_rows);
            if (fits) check_rules(&t, &p, max_rows);
            // What does not: several rows, or very long ones whose norm the stage would take itself.
            CHECK(fits || max_rows == 8 || (p.has_norm && n_cols > 14336));
            CHECK(fits || n_cols > 2048 || t.sm < 90);
            CHECK(fits || (p.has_norm && max_rows == 1) || t.sm < 90);
        }
    }
}

// The sizes that were measured.
TEST(cuda_batch_shapes_of_usual_models) {
    static const struct {
        const char *name;
        Dtype dtype;
        uint32_t n_rows, n_cols, bands;
        bool norm;
        uint32_t max_rows;
        Shape expected;
    } rows[] = {
        {"8B qkv", DTYPE_Q4_K, 6144, 4096, 1, true, 1, {132, 12, 4, 1, 2, 82944, 116736, 2, 0}},
        {"8B output", DTYPE_Q4_K, 4096, 4096, 1, false, 1, {132, 16, 8, 1, 2, 73728, 116736, 2, 0}},
        {"8B gate and up", DTYPE_Q4_K, 14336, 4096, 2, true, 1, {132, 14, 1, 1, 2, 96768, 116736, 2, 0}},
        {"8B down", DTYPE_Q4_K, 4096, 14336, 1, false, 1, {132, 8, 4, 1, 3, 73728, 116736, 2, 0}},
        {"GLM-4.7-Flash output", DTYPE_Q4_K, 2048, 5120, 1, false, 1, {128, 7, 7, 1, 3, 48384, 116736, 2, 0}},
        {"1B output", DTYPE_Q4_K, 2048, 2048, 1, false, 1, {128, 8, 8, 1, 2, 18432, 0, 2, 0}},
        {"8B gate and up", DTYPE_Q4_K, 14336, 4096, 2, true, 8, {132, 14, 1, 1, 2, 96768, 0, 1, 0}},
        {"8B down", DTYPE_Q4_K, 4096, 14336, 1, false, 8, {132, 8, 2, 2, 4, 92160, 0, 1, 1}},
        {"0.5B output", DTYPE_Q5_0, 896, 896, 1, false, 1, {56, 4, 4, 1, 2, 11264, 0, 2, 0}},
    };
    LowerTarget t = lower_target_of_sm(90);
    for (uint32_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s, %u rows", rows[i].name, rows[i].max_rows);
        Weight w = {.dtype = rows[i].dtype};
        ProductSize p = size_of(&w, rows[i].n_rows, rows[i].n_cols, rows[i].bands, rows[i].norm);
        Shape s = shape_of(&t, &p, rows[i].max_rows);
        CHECK_BYTES_EQ(&rows[i].expected, sizeof s, &s, sizeof s);
        bool clusters = s.k_blocks > 1;
        CHECK(clusters == (product_partial_bytes_few(&t, &p, rows[i].max_rows) > 0));
        CHECK(clusters == (product_meetings_few(&t, &p, rows[i].max_rows) > 0));
    }
}

// Outputs with a norm behind them, and those that leave multiprocessors without a block, stand beside others.
TEST(cuda_batch_shapes_of_outputs_beside_others) {
    static const struct {
        uint32_t n_rows;
        bool adds;
        uint32_t least;
    } rows[] = {{4096, true, 116736}, {4096, false, 57344}, {2048, true, 116736}, {2032, true, 57344}};
    LowerTarget t = lower_target_of_sm(90);
    Weight w = {.dtype = DTYPE_Q4_K};
    for (uint32_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%u rows, adds %d", rows[i].n_rows, rows[i].adds);
        ProductSize p = size_of(&w, rows[i].n_rows, 14336, 1, false);
        p.adds = rows[i].adds;
        CHECK_U64_EQ(rows[i].least, shape_of(&t, &p, 1).least);
    }
}

// Bands of formats that differ in bytes: all warps find room in a slot as large as their own pieces, where as
// large a one as the largest format's would have half of them.
TEST(cuda_batch_shapes_of_inputs_of_a_state) {
    static const struct {
        const char *name;
        uint32_t n_cols, rows[4], own_pieces;
        Shape expected;
    } rows[] = {
        {"Qwen3.5-9B", 4096, {8192, 4096, 32, 32}, 13824, {132, 12, 2, 1, 2, 82944, 116736, 2, 0}},
        {"Qwen3.5-35B-A3B", 2048, {8192, 4096, 32, 32}, 13824, {132, 12, 2, 1, 2, 82944, 116736, 2, 0}},
    };
    LowerTarget t = lower_target_of_sm(90);
    for (uint32_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        Weight w[4];
        ProductSize p = {.n_cols = rows[i].n_cols, .unit_bands = 1, .n_weights = 4, .has_norm = true};
        for (uint32_t k = 0; k < 4; k++) {
            w[k] = (Weight){.dtype = k < 2 ? DTYPE_Q4_K : DTYPE_Q8_0, .n_rows = rows[i].rows[k]};
            p.units += rows[i].rows[k] / 16, p.weights[k] = &w[k];
        }
        char text[1024];
        StrBuf b = STRBUF(text);
        product_define_few(&b, &t, &p, 1);
        CHECK_U64_EQ(rows[i].own_pieces, defined(text, "OWN_PIECES", 0));
        Shape s = shape_of(&t, &p, 1);
        CHECK_BYTES_EQ(&rows[i].expected, sizeof s, &s, sizeof s);
        // Few rows that share bytes with others of another format: as before.
        w[2].dtype = w[3].dtype = DTYPE_Q4_K;
        b = STRBUF(text);
        product_define_few(&b, &t, &p, 1);
        CHECK_U64_EQ(0, defined(text, "OWN_PIECES", 0));
    }
}

#endif
