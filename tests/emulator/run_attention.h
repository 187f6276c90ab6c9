// Variants of batches' heads and attention.
#pragma once

namespace {
#include "../kernels_src/kv_cache.cuh"
#if defined(STAGE_ROPE_HEADS)
#include "../kernels_src/turned.cuh"
#include "../kernels_src/turn_heads.cuh"
#include "../kernels_src/rope_heads.cuh"
void run(const void *args) {
    rope_heads(*(const RopeHeadsArgs *)args);
}
const StageInfo info = rope_heads_info;
#else
#include "../kernels_src/rows.cuh"
#include "../kernels_src/soft_cap.cuh"
#include "../kernels_src/attend.cuh"
#if defined(STAGE_BATCH_ATTENTION)
#ifdef HEAD_GATES
#include "../kernels_src/activate.cuh"
#endif
#include "../kernels_src/turned.cuh"
#include "../kernels_src/turn_heads.cuh"
#include "../kernels_src/attention_list.cuh"
#include "../kernels_src/attention.cuh"
#include "../kernels_src/attention_tiles.cuh"
#include "../kernels_src/attention_triples.cuh"
#include "../kernels_src/attention_run.cuh"
#include "../kernels_src/attention_clusters.cuh"
void run(const void *args) {
    attention(*(const BatchAttentionArgs *)args);
}
const StageInfo info = attention_info;
#else
#include "../kernels_src/span_parts.cuh"
#if defined(STAGE_SPAN_ATTENTION)
#include "../kernels_src/span_attention.cuh"
#elif defined(STAGE_SPAN_WIDE)
#include "../kernels_src/ring.cuh"
#include "../kernels_src/attend_columns.cuh"
#include "../kernels_src/span_attention_wide.cuh"
#else
#include "../kernels_src/ring.cuh"
#include "../kernels_src/span_codes.cuh"
#include "../kernels_src/span_attention_wgmma.cuh"
#endif
#define SPAN_QUERIES QUERIES
#include "../kernels_src/span_fold.cuh"
void run(const void *args) {
    span_attention(*(const BatchAttentionArgs *)args);
}
void run_fold(const void *args) {
    span_fold(*(const BatchAttentionArgs *)args);
}
const StageInfo info = span_attention_info;
#endif
#endif

#include "describe.h"
