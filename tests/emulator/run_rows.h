// What run.h is to other variants, to those of stages that work row by row (kernels_src/rows.cuh and what is
// built on it).
#pragma once

#include "norm_shapes.h"

namespace {
#if defined(STAGE_NORM_SHAPES)
#include "../kernels_src/rows.cuh"
template <u32 n_cols, u32 rows_max, u32 n_warps> void run_norms(const NormShapesArgs *a) {
    RowNorms<n_cols, rows_max, n_warps> norms;
    norms.prepare(a->norm, a->bias, warp_index());
    norms.run(a->x, a->n_rows, a->out, a->first_row, (float *)shared_memory(), warp_index(),
              [] { block_sync(); });
}
template <u32 n_cols> void run_shapes(const NormShapesArgs *a) {
#define SHAPE(rows, warps) \
    if (a->rows_max == rows && a->n_warps == warps) run_norms<n_cols, rows, warps>(a);
    NORM_SHAPES(SHAPE)
#undef SHAPE
}
void run(const void *args) {
    const NormShapesArgs *a = (const NormShapesArgs *)args;
#define COLS(n) \
    if (a->n_cols == n) run_shapes<n>(a);
    NORM_SHAPES_COLS(COLS)
#undef COLS
}
const StageInfo info = {WARP, {1, 1}, 8 * 33 * 2 * 4}; // shared memory of the largest
#elif defined(STAGE_NORM_ROWS)
#include "../kernels_src/rows.cuh"
#include "../kernels_src/norm_rows.cuh"
void run(const void *args) {
    norm_rows(*(const NormArgs *)args);
}
const StageInfo info = norm_rows_info;
#endif

#include "describe.h"
