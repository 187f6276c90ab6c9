// Makes an EmulatedStage of the defines before it, and registers it (variant.h).
#pragma once

namespace {
#include "../kernels_src/formats.cuh"
#if defined(STAGE_REPACK)
#include "../kernels_src/repack.cuh"
void run(const void *args) {
    repack_kernel(*(const RepackArgs *)args);
}
void run_values(const void *args) {
    const ValuesArgs *a = (const ValuesArgs *)args;
    u32 i = block_index() * 256 + thread_index();
    if (i >= a->n_rows * a->n_cols) return;
    const u8 *row = a->weight + i / a->n_cols * layout_row_bytes(FORMAT, a->n_cols);
    a->out[i] = weight_value<FORMAT>(row, a->n_cols, i % a->n_cols);
}
void run_dots(const void *args) {
#if !FORMAT_IS_FLOAT(FORMAT)
    const DotsArgs *a = (const DotsArgs *)args;
    u32 block = block_index() * 256 + thread_index(), n_blocks = a->n_cols / BLOCK_WEIGHTS;
    if (block >= n_blocks) return;
    const u8 *tile = a->weight + block / TILE_BLOCKS * layout_tile_bytes(FORMAT, TILE_BLOCKS);
    u32 n = MIN(n_blocks - block / TILE_BLOCKS * TILE_BLOCKS, (u32)TILE_BLOCKS), i = block % TILE_BLOCKS;
    const uint4 *q = (const uint4 *)(a->x + block * 64);
    BlockX x = {q[0], q[1], q[2], q[3], 0.25f, 0};
    x.sum = x.scale * (float)(sum_bytes(x.low, x.low_fine) + sum_bytes(x.high, x.high_fine));
    a->out[block][0] = a->out[block][1] = Block<FORMAT>::add_dot(a->sum, tile, n, i, x);
#if FORMAT != FORMAT_Q2_K
    UnpackedBlock b;
    Block<FORMAT>::unpack(tile, n, i, &b);
    a->out[block][1] = add_unpacked(a->sum, b, x);
#endif
#else
    (void)args;
#endif
}
const StageInfo info = {256, {1, 1}, 0};
#elif defined(STAGE_SAMPLE_GREEDY)
#include "../kernels_src/logits.cuh"
#include "../kernels_src/sample_greedy.cuh"
void run(const void *args) {
    sample_greedy(*(const SampleArgs *)args);
}
const StageInfo info = sample_greedy_info;
#elif defined(STAGE_SAMPLE)
#include "../kernels_src/logits.cuh"
#include "../kernels_src/sample_full.cuh"
void run(const void *args) {
    sample_full(*(const SampleArgs *)args);
}
const StageInfo info = sample_full_info;
#elif defined(STAGE_SAMPLE_ADJUST)
#include "../kernels_src/logits.cuh"
#include "../kernels_src/sample_adjust.cuh"
void run(const void *args) {
    sample_adjust(*(const SampleAdjustArgs *)args);
}
const StageInfo info = sample_adjust_info;
#elif defined(STAGE_SAMPLE_LOGPROBS)
#include "../kernels_src/logits.cuh"
#include "../kernels_src/sample_logprobs.cuh"
void run(const void *args) {
    sample_logprobs(*(const SampleLogprobsArgs *)args);
}
const StageInfo info = sample_logprobs_info;
#elif defined(STAGE_ATTENTION)
#include "../kernels_src/attention_splits.cuh"
#include "../kernels_src/soft_cap.cuh"
#include "../kernels_src/kv_cache.cuh"
#include "../kernels_src/decode_attention.cuh"
void run(const void *args) {
    decode_attention(*(const AttentionArgs *)args);
}
const StageInfo info = decode_attention_info;
#elif defined(STAGE_HEADS)
#include "../kernels_src/kv_cache.cuh"
#include "../kernels_src/heads.cuh"
#ifdef MAX_ROWS
#include "../kernels_src/prefill_heads.cuh"
void run(const void *args) {
    prefill_heads(*(const PrefillHeadsArgs *)args);
}
const StageInfo info = prefill_heads_info;
#else
#include "../kernels_src/decode_heads.cuh"
void run(const void *args) {
    decode_heads(*(const HeadsArgs *)args);
}
const StageInfo info = decode_heads_info;
#endif
#elif defined(STAGE_POST_NORM)
#ifdef MAX_ROWS
#include "../kernels_src/prefill_post_norm.cuh"
void run(const void *args) {
    prefill_post_norm(*(const PrefillPostNormArgs *)args);
}
const StageInfo info = prefill_post_norm_info;
#else
#include "../kernels_src/decode_post_norm.cuh"
void run(const void *args) {
    decode_post_norm(*(const PostNormArgs *)args);
}
const StageInfo info = decode_post_norm_info;
#endif
#elif defined(STAGE_ROUTE)
#include "../kernels_src/decode_route.cuh"
void run(const void *args) {
    decode_route(*(const RouteArgs *)args);
}
const StageInfo info = decode_route_info;
#elif defined(STAGE_PREFILL_ROUTE)
#include "../kernels_src/expert_choice.cuh"
#include "../kernels_src/prefill_route.cuh"
void run(const void *args) {
    prefill_route(*(const PrefillRouteArgs *)args);
}
const StageInfo info = prefill_route_info;
#elif defined(STAGE_PREFILL_GROUP)
#include "../kernels_src/prefill_group.cuh"
void run(const void *args) {
    prefill_group(*(const PrefillGroupArgs *)args);
}
const StageInfo info = prefill_group_info;
#elif defined(STAGE_PREFILL_GATHER)
#include "../kernels_src/prefill_gather.cuh"
void run(const void *args) {
    prefill_gather(*(const PrefillGatherArgs *)args);
}
const StageInfo info = prefill_gather_info;
#elif defined(STAGE_PREFILL_EXPERTS_SUM)
#include "../kernels_src/prefill_experts_sum.cuh"
void run(const void *args) {
    prefill_experts_sum(*(const PrefillExpertsSumArgs *)args);
}
const StageInfo info = prefill_experts_sum_info;
#elif defined(MAX_ROWS)
#if defined(STAGE_PREFILL_EMBED)
#include "../kernels_src/prefill_embed.cuh"
void run(const void *args) {
    prefill_embed(*(const PrefillEmbedArgs *)args);
}
const StageInfo info = prefill_embed_info;
#elif defined(STAGE_PREFILL_ROPE)
#include "../kernels_src/prefill_rope.cuh"
void run(const void *args) {
    prefill_rope(*(const PrefillRopeArgs *)args);
}
const StageInfo info = prefill_rope_info;
#else
#include "../kernels_src/prefill_tiles.cuh"
#if defined(STAGE_PREFILL_NORM)
#include "../kernels_src/prefill_norm.cuh"
void run(const void *args) {
    prefill_norm(*(const PrefillNormArgs *)args);
}
const StageInfo info = prefill_norm_info;
#elif defined(STAGE_PREFILL_ATTENTION)
#include "../kernels_src/soft_cap.cuh"
#include "../kernels_src/kv_cache.cuh"
#include "../kernels_src/prefill_attention.cuh"
void run(const void *args) {
    prefill_attention(*(const PrefillAttentionArgs *)args);
}
const StageInfo info = prefill_attention_info;
#else
#include "../kernels_src/format_runs.cuh"
#include "../kernels_src/prefill_weights.cuh"
#include "../kernels_src/prefill_matmul.cuh"
#if defined(STAGE_PREFILL_QKV)
#include "../kernels_src/kv_cache.cuh"
#include "../kernels_src/prefill_qkv.cuh"
void run(const void *args) {
    prefill_qkv(*(const PrefillQkvArgs *)args);
}
const StageInfo info = prefill_qkv_info;
#elif defined(STAGE_PREFILL_OUTPUT)
#include "../kernels_src/prefill_output.cuh"
void run(const void *args) {
    prefill_output(*(const PrefillOutputArgs *)args);
}
const StageInfo info = prefill_output_info;
#elif defined(STAGE_PREFILL_GLU)
#include "../kernels_src/activate.cuh"
#include "../kernels_src/prefill_glu_units.cuh"
#include "../kernels_src/prefill_glu.cuh"
void run(const void *args) {
    prefill_glu(*(const PrefillGluArgs *)args);
}
const StageInfo info = prefill_glu_info;
#elif defined(STAGE_PREFILL_EXPERTS_GLU)
#include "../kernels_src/activate.cuh"
#include "../kernels_src/prefill_glu_units.cuh"
#include "../kernels_src/prefill_experts.cuh"
#include "../kernels_src/prefill_experts_glu.cuh"
void run(const void *args) {
    prefill_experts_glu(*(const PrefillExpertsGluArgs *)args);
}
const StageInfo info = prefill_experts_glu_info;
#elif defined(STAGE_PREFILL_EXPERTS_DOWN)
#include "../kernels_src/prefill_experts.cuh"
#include "../kernels_src/prefill_experts_down.cuh"
void run(const void *args) {
    prefill_experts_down(*(const PrefillExpertsDownArgs *)args);
}
const StageInfo info = prefill_experts_down_info;
#endif
#endif
#endif
#else
#include "../kernels_src/stage_shapes.cuh"
#include "../kernels_src/format_runs.cuh"
#include "../kernels_src/activations.cuh"
#include "../kernels_src/matvec.cuh"
#if defined(STAGE_QKV)
#include "../kernels_src/decode_norm.cuh"
#include "../kernels_src/kv_cache.cuh"
#include "../kernels_src/decode_qkv.cuh"
void run(const void *args) {
    decode_qkv(*(const QkvArgs *)args);
}
const StageInfo info = decode_qkv_info;
#elif defined(STAGE_OUTPUT)
#ifdef FROM_ATTENTION
#include "../kernels_src/attention_splits.cuh"
#endif
#include "../kernels_src/decode_output.cuh"
void run(const void *args) {
    decode_output(*(const OutputArgs *)args);
}
const StageInfo info = decode_output_info;
#elif defined(STAGE_GLU)
#include "../kernels_src/decode_norm.cuh"
#include "../kernels_src/activate.cuh"
#include "../kernels_src/decode_glu.cuh"
void run(const void *args) {
    decode_glu(*(const GluArgs *)args);
}
const StageInfo info = decode_glu_info;
#elif defined(STAGE_EXPERTS_GLU)
#include "../kernels_src/decode_norm.cuh"
#include "../kernels_src/expert_choice.cuh"
#include "../kernels_src/activate.cuh"
#include "../kernels_src/decode_experts_glu.cuh"
void run(const void *args) {
    decode_experts_glu(*(const ExpertsGluArgs *)args);
}
const StageInfo info = decode_experts_glu_info;
#elif defined(STAGE_EXPERTS_DOWN)
#include "../kernels_src/expert_choice.cuh"
#include "../kernels_src/decode_experts_down.cuh"
void run(const void *args) {
    decode_experts_down(*(const ExpertsDownArgs *)args);
}
const StageInfo info = decode_experts_down_info;
#elif defined(STAGE_HEAD)
#include "../kernels_src/decode_norm.cuh"
#include "../kernels_src/logits.cuh"
#include "../kernels_src/soft_cap.cuh"
#include "../kernels_src/decode_head.cuh"
void run(const void *args) {
    decode_head(*(const HeadArgs *)args);
}
const StageInfo info = decode_head_info;
#endif
#endif

#include "describe.h"
