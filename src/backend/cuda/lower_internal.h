// Lowering, for its own files: what the rows of the stages (batch_stage_*.c) are written with.
#pragma once

#include "../kernels_src/layout.h"
#include "backend/cuda/lower.h"
#include "base/strbuf.h"

// ---- rows: files and costs of programs ----

#define FILES_COMMON "prelude.cuh", "layout.h", "args.h"
#define FILES_TILES "tiles.cuh", "codebooks.h", "tiles_codebooks.cuh"

// How long a program takes to compile, in hundredths of a second beside 15 others on an H100's host. Those
// that take longest say it themselves; the rest takes 10 to 50.
enum { COST_USUAL = 30 };

// ---- checks ----

// ERR_UNSUPPORTED: "tensor … cannot be run on the GPU yet: WHY".
bool lower_refuse_weight(Error *err, const Weight *w, const char *why);

// ---- defines ----

static inline void define(StrBuf *b, const char *name, uint64_t value) {
    strbuf_printf(b, "#define %s %llu\n", name, (unsigned long long)value);
}

static inline void define_float(StrBuf *b, const char *name, float value) {
    strbuf_printf(b, "#define %s %af\n", name, (double)value); // hexadecimal: exact
}

static inline void define_format(StrBuf *b, const char *name, const Weight *w) {
    strbuf_printf(b, "#define %s FORMAT_%s\n", name, dtype_info(w->dtype)->name);
}

// NORM_EPS, LAYER_NORM, NORM_NONE.
void define_norm(StrBuf *b, const Op *norm);
// N_HEADS and HEAD_DIM of an OP_ATTENTION.
void define_heads(StrBuf *b, const Op *attention);
// SOFT_CAP of scores or of logits, where there is one.
void define_cap(StrBuf *b, float cap);
void define_activation(StrBuf *b, ActFn fn);

// ---- shapes of batches' products (batch_shapes_few.c, batch_shapes_many.c) ----

// The size of a stage's product (kernels_src/product.cuh).
typedef struct {
    uint32_t n_cols;
    uint32_t units, unit_bands;
    const Weight *weights[4]; // of three formats at most
    uint32_t n_weights;
    bool is_head;
    bool has_norm; // the norm of its input comes before it; it takes that of one row by itself
    bool adds;     // to the residual stream, with no norm of its own behind it
} ProductSize;

// Of shared memory that a copy of its formats' codebooks takes (product.cuh).
static inline uint32_t product_codebook_bytes(const ProductSize *p) {
    uint32_t bytes = 0;
    for (uint32_t i = 0; i < p->n_weights; i++) {
        bool is_new = true;
        for (uint32_t k = 0; k < i; k++)
            is_new &= p->weights[k]->dtype != p->weights[i]->dtype;
        if (is_new) bytes += layout_codebook_bytes((int)p->weights[i]->dtype);
    }
    return bytes;
}

// Segments of a row (product.cuh).
static inline uint32_t product_segments(uint32_t n_cols) {
    uint64_t chunks = div_up(n_cols, 256);
    return (uint32_t)div_up(chunks, div_up(chunks, 8));
}
// Whether the body of few rows can have it: the activations of a long row may not fit a block, where it takes
// its norm by itself.
bool product_fits_few(const LowerTarget *t, const ProductSize *p, uint32_t max_rows);
// The body's defines for batches of max_rows rows.
void product_define_few(StrBuf *b, const LowerTarget *t, const ProductSize *p, uint32_t max_rows);
// small: with tiles of 64 rows at most (BatchSize).
void product_define_many(StrBuf *b, const LowerTarget *t, const ProductSize *p, uint32_t max_rows,
                         bool small);
// Blocks that each leave a best logit of a row.
uint32_t product_blocks_few(const LowerTarget *t, const ProductSize *p, uint32_t max_rows);
uint32_t product_blocks_many(const LowerTarget *t, const ProductSize *p, uint32_t max_rows);
// What blocks that share a band's columns need to give each other: bytes, and counters.
uint64_t product_partial_bytes_few(const LowerTarget *t, const ProductSize *p, uint32_t max_rows);
uint64_t product_partial_bytes_many(const LowerTarget *t, const ProductSize *p, uint32_t max_rows);
uint32_t product_meetings_few(const LowerTarget *t, const ProductSize *p, uint32_t max_rows);
uint32_t product_meetings_many(const LowerTarget *t, const ProductSize *p, uint32_t max_rows);
