// Variants of the experts' stages of batches (kernels_src/route.cuh and what
// follows it).
#pragma once

namespace {
#if defined(STAGE_ROUTE_ROWS)
#include "../kernels_src/rows.cuh"
#include "../kernels_src/expert_choice.cuh"
#include "../kernels_src/route.cuh"
void run(const void *args) {
    route(*(const RouteRowsArgs *)args);
}
const StageInfo info = route_info;
#elif defined(STAGE_GROUP_EXPERTS)
#include "../kernels_src/rows.cuh"
#include "../kernels_src/group_experts.cuh"
void run(const void *args) {
    group_experts(*(const GroupExpertsArgs *)args);
}
const StageInfo info = group_experts_info;
#elif defined(STAGE_EXPERTS_SUM)
#include "../kernels_src/experts_sum.cuh"
void run(const void *args) {
    experts_sum(*(const ExpertsSumArgs *)args);
}
const StageInfo info = experts_sum_info;
#else
#include "../kernels_src/tiles.cuh"
#include "../kernels_src/codebooks.h"
#include "../kernels_src/tiles_codebooks.cuh"
#include "../kernels_src/rows.cuh"
#include "../kernels_src/experts_units.cuh"
#include "../kernels_src/product.cuh"
#if defined(EXPERTS_MANY) && TILE_ROWS > 8
#include "../kernels_src/product_many.cuh"
#include "../kernels_src/product_many_wgmma.cuh"
#include "../kernels_src/product_many_mma.cuh"
#else
#include "../kernels_src/product_few.cuh"
#include "../kernels_src/product_few_fetch.cuh"
#include "../kernels_src/product_few_run.cuh"
#include "../kernels_src/expert_choice.cuh"
#endif
#include "../kernels_src/chosen_experts.cuh"
#ifdef STAGE_EXPERTS_GLU
#include "../kernels_src/activate.cuh"
#include "../kernels_src/experts_glu.cuh"
void run(const void *args) {
    experts_glu(*(const ExpertsArgs *)args);
}
const StageInfo info = experts_glu_info;
#else
#include "../kernels_src/experts_down.cuh"
void run(const void *args) {
    experts_down(*(const ExpertsArgs *)args);
}
const StageInfo info = experts_down_info;
#endif
#undef N_COLS // of a product: the tests know it from D_MODEL and D_FF
#endif
#ifdef EXPERT_SLOTS // EmulatedStage's n_rows and tile_tokens
#define N_ROWS EXPERT_SLOTS
#endif
#ifdef TILE_ROWS
#define TILE_TOKENS TILE_ROWS
#endif

#include "describe.h"
