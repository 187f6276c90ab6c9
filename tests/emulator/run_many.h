// Variants of products of more than 8 rows (kernels_src/product_many.cuh).
#pragma once

#ifdef STAGE_QKV
#define ROWS_0 (N_HEADS * HEAD_DIM)
#define ROWS_1 (N_KV_HEADS * HEAD_DIM)
#define ROWS_2 (N_KV_HEADS * HEAD_DIM)
#endif

namespace {
#include "../kernels_src/tiles.cuh"
#include "../kernels_src/codebooks.h"
#include "../kernels_src/tiles_codebooks.cuh"
#include "../kernels_src/rows.cuh"
#include "../kernels_src/product.cuh"
#include "../kernels_src/product_many.cuh"
#include "../kernels_src/product_many_wgmma.cuh"
#include "../kernels_src/product_many_mma.cuh"
#if defined(STAGE_QKV)
#include "../kernels_src/qkv.cuh"
void run(const void *args) {
    qkv(*(const ProductArgs *)args);
}
const StageInfo info = qkv_info;
#elif defined(STAGE_OUTPUT)
#include "../kernels_src/output.cuh"
void run(const void *args) {
    output(*(const ProductArgs *)args);
}
const StageInfo info = output_info;
#elif defined(STAGE_GLU)
#include "../kernels_src/activate.cuh"
#include "../kernels_src/glu.cuh"
void run(const void *args) {
    glu(*(const ProductArgs *)args);
}
const StageInfo info = glu_info;
#elif defined(STAGE_HEAD)
#include "../kernels_src/logits.cuh"
#include "../kernels_src/soft_cap.cuh"
#include "../kernels_src/head.cuh"
void run(const void *args) {
    head(*(const ProductArgs *)args);
}
const StageInfo info = head_info;
#endif

#include "describe.h"
