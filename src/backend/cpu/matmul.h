// Matrix products of the CPU reference: float32 activations times weights in their stored format.
#pragma once

#include "os/pool.h"
#include "model/weights.h"

enum { MATMUL_TILE_ROWS = 16 }; // rows of weights that a thread expands at a time

// Floats of scratch a thread needs for weights of up to n_cols columns.
static inline uint64_t matmul_scratch_floats(uint64_t n_cols) {
    return MATMUL_TILE_ROWS * align_up(n_cols, 16);
}

typedef struct {
    uint32_t in, out;
} MatmulRow;

typedef struct {
    const Weight *weight; // [n_rows][n_cols] of matrix `matrix`
    uint32_t matrix;
    const float *bias; // [n_rows] or NULL
    const float *in;   // [][in_stride], of which a row's first n_cols are read
    float *out;        // [][out_stride], of which a row's first n_rows are written
    uint64_t in_stride, out_stride;
    uint32_t n_tokens;
    const MatmulRow *rows; // [n_tokens] each token's rows of in and out, those of in ascending; NULL: its own
    float *scratch;        // [threads][matmul_scratch_floats]
    uint64_t scratch_stride; // floats from one thread's scratch to the next
} Matmul;

// out[t][r] = sum over c of weight[r][c] * in[t][c], plus bias[r], t standing for the rows of a token.
//
// A row of weights is expanded to float32 once and multiplied with every token. Each sum is made in the same
// order (8 partial sums over c mod 8, then theirs in a tree) however many tokens there are, so that a token's
// result does not depend on the others, to the bit.
void matmul_run(Pool *pool, const Matmul *m);

// The dot product that matmul_run makes, for n a multiple of 8 or not.
float dot_f32(const float *a, const float *b, uint64_t n);
