// Variants of stages that work row by row (kernels_src/rows.cuh and what is
// built on it).
#pragma once

#include "norm_shapes.h"

namespace {
#if defined(STAGE_NORM_SHAPES)
#include "../kernels_src/rows.cuh"
template <u32 n_cols, u32 rows_max, u32 n_warps> void run_norms(const NormShapesArgs *a) {
    RowNorms<n_cols, rows_max, n_warps, n_warps == 14 ? 32 : 64> norms;
    norms.prepare(a->norm, a->bias, warp_index());
    norms.run([&](u32 row) { return a->x + row * n_cols; }, a->n_rows, a->out, a->first_row,
              (float *)shared_memory(), warp_index(), [] { block_sync(); });
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
#elif defined(STAGE_BATCH_POST_NORM)
#include "../kernels_src/rows.cuh"
#include "../kernels_src/post_norm.cuh"
void run(const void *args) {
    post_norm(*(const BatchPostNormArgs *)args);
}
const StageInfo info = post_norm_info;
#elif defined(STAGE_EMBED)
#include "../kernels_src/tiles.cuh"
#include "../kernels_src/codebooks.h"
#include "../kernels_src/tiles_codebooks.cuh"
#include "../kernels_src/rope.cuh"
#include "../kernels_src/embed.cuh"
void run(const void *args) {
    embed(*(const EmbedArgs *)args);
}
const StageInfo info = embed_info;
#elif defined(STAGE_DRAW)
#include "../kernels_src/logits.cuh"
#include "../kernels_src/draws.cuh"
#if STAGE_DRAW == 1
#include "../kernels_src/draw_greedy.cuh"
#define DRAW_STAGE draw_greedy
#elif STAGE_DRAW == 2
#include "../kernels_src/draw_adjust.cuh"
#define DRAW_STAGE draw_adjust
#elif STAGE_DRAW == 3
#include "../kernels_src/draw_rank.cuh"
#define DRAW_STAGE draw_rank
#elif STAGE_DRAW == 4
#include "../kernels_src/draw_sample.cuh"
#define DRAW_STAGE draw_sample
#elif STAGE_DRAW == 5
#include "../kernels_src/draw_logprobs.cuh"
#define DRAW_STAGE draw_logprobs
#endif
#define JOIN_OF(a, b) a##b
#define JOIN(a, b) JOIN_OF(a, b)
void run(const void *args) {
    DRAW_STAGE(*(const DrawArgs *)args);
}
const StageInfo info = JOIN(DRAW_STAGE, _info);
#endif

#include "describe.h"
