// What run.h is to other variants, to those of the experts' stages of batches (kernels_src/route.cuh and what
// follows it).
#pragma once

namespace {
#include "../kernels_src/rows.cuh"
#if defined(STAGE_ROUTE_ROWS)
#include "../kernels_src/expert_choice.cuh"
#include "../kernels_src/route.cuh"
void run(const void *args) {
    route(*(const RouteRowsArgs *)args);
}
const StageInfo info = route_info;
#elif defined(STAGE_GROUP_EXPERTS)
#include "../kernels_src/group_experts.cuh"
void run(const void *args) {
    group_experts(*(const GroupExpertsArgs *)args);
}
const StageInfo info = group_experts_info;
#define N_ROWS SLOTS // EmulatedStage's n_rows and tile_tokens
#define TILE_TOKENS TILE_ROWS
#elif defined(STAGE_EXPERTS_SUM)
#include "../kernels_src/experts_sum.cuh"
void run(const void *args) {
    experts_sum(*(const ExpertsSumArgs *)args);
}
const StageInfo info = experts_sum_info;
#endif

#include "describe.h"
