// What the variants norm_shapes take: norms of rows by a block of so many warps, as RowNorms of
// kernels_src/rows.cuh has them. C17 and C++.
#pragma once

typedef struct {
    const float *x, *norm, *bias; // [n_rows][n_cols], [n_cols], [n_cols]
    unsigned short *out;          // activations for NORM_SHAPES_ROWS rows
    unsigned n_rows, n_cols;
    unsigned rows_max, n_warps; // that the norms are compiled for: of norm_shapes_compiled
    unsigned first_row;         // of `out`
} NormShapesArgs;

enum { NORM_SHAPES_ROWS = 8 };

// The numbers of columns, and {rows_max, n_warps}.
#define NORM_SHAPES_COLS(ROW) ROW(64) ROW(896) ROW(2048) ROW(2880) ROW(4096) ROW(5120) ROW(8192)
#define NORM_SHAPES(ROW) ROW(1, 16) ROW(1, 4) ROW(8, 16) ROW(8, 14) ROW(8, 7)
