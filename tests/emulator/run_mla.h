// Variants of attention over a compressed cache. Their D_MODEL is KV_RANK, TILE_TOKENS MLA_QUERIES, BLOCKS
// MLA_BLOCKS. Heads' outputs are as wide as latent vectors, so that their matrices can leave these as they
// are.
#pragma once

#define N_KV_HEADS 1
#define WINDOW 0
#define KV_RANK D_MODEL
#define MLA_QUERIES TILE_TOKENS
#define MLA_BLOCKS BLOCKS

namespace {
#include "../kernels_src/kv_cache.cuh"
#include "../kernels_src/rows.cuh"
#include "../kernels_src/soft_cap.cuh"
#include "../kernels_src/attend.cuh"
#ifndef MLA_STRETCHES
#include "../kernels_src/mla_list.cuh"
#endif
#if defined(STAGE_MLA_VALUES)
#define FOLDS
#define FORMAT_0 FORMAT_F16
#define PRODUCT_ROWS KV_RANK
#define PRODUCT_COLS KV_RANK
#include "../kernels_src/mla_triples.cuh"
#include "../kernels_src/tiles.cuh"
#include "../kernels_src/codebooks.h"
#include "../kernels_src/tiles_codebooks.cuh"
#include "../kernels_src/head_product.cuh"
#include "../kernels_src/mla_values.cuh"
void run(const void *args) {
    mla_values(*(const MlaValuesArgs *)args);
}
const StageInfo info = mla_values_info;
#elif defined(STAGE_MLA_FOLD)
#include "../kernels_src/mla_triples.cuh"
#include "../kernels_src/mla_fold.cuh"
void run(const void *args) {
    mla_fold(*(const MlaAttentionArgs *)args);
}
const StageInfo info = mla_fold_info;
#else
#include "../kernels_src/mla_tasks.cuh"
#if defined(STAGE_MLA_WGMMA)
#include "../kernels_src/ring.cuh"
#include "../kernels_src/attend_columns.cuh"
#include "../kernels_src/mla_attention_wgmma.cuh"
#else
#include "../kernels_src/mla_attention.cuh"
#endif
void run(const void *args) {
    mla_attention(*(const MlaAttentionArgs *)args);
}
const StageInfo info = mla_attention_info;
#endif

#include "describe.h"
