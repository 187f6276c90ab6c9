// The variants as compiled for sm_90.
#define SM_ARCH 90
#include "prelude.h"

#include "stages.h"

#define VARIANT repack_bf16
#include "run.h"
#define VARIANT repack_f16
#include "run.h"
#define VARIANT repack_f32
#include "run.h"
#define VARIANT repack_iq4_nl
#include "run.h"
#define VARIANT repack_iq4_xs
#include "run.h"
#define VARIANT repack_mxfp4
#include "run.h"
#define VARIANT repack_q2_k
#include "run.h"
#define VARIANT repack_q3_k
#include "run.h"
#define VARIANT repack_q4_0
#include "run.h"
#define VARIANT repack_q4_1
#include "run.h"
#define VARIANT repack_q4_k
#include "run.h"
#define VARIANT repack_q5_0
#include "run.h"
#define VARIANT repack_q5_1
#include "run.h"
#define VARIANT repack_q5_k
#include "run.h"
#define VARIANT repack_q6_k
#include "run.h"
#define VARIANT repack_q8_0
#include "run.h"
#define VARIANT qkv_codes
#include "run.h"
#define VARIANT qkv_float
#include "run.h"
#define VARIANT qkv_mixed
#include "run.h"
#define VARIANT qkv_pairs
#include "run.h"
#define VARIANT qkv_ring
#include "run.h"
#define VARIANT qkv_small
#include "run.h"
#define VARIANT attention_12x32
#include "run.h"
#define VARIANT attention_4x128
#include "run.h"
#define VARIANT attention_7x64
#include "run.h"
#define VARIANT attention_window
#include "run.h"
#define VARIANT sample_small
#include "run.h"
#define VARIANT sample_runs
#include "run.h"
#define VARIANT sample_greedy
#include "run.h"
#define VARIANT output_attention
#include "run.h"
#define VARIANT output_attention_sinks
#include "run.h"
#define VARIANT output_bf16
#include "run.h"
#define VARIANT output_f16
#include "run.h"
#define VARIANT output_f32
#include "run.h"
#define VARIANT output_iq4_nl
#include "run.h"
#define VARIANT output_iq4_xs
#include "run.h"
#define VARIANT output_mxfp4
#include "run.h"
#define VARIANT output_q2_k
#include "run.h"
#define VARIANT output_q3_k
#include "run.h"
#define VARIANT output_q4_0
#include "run.h"
#define VARIANT output_q4_1
#include "run.h"
#define VARIANT output_q4_k
#include "run.h"
#define VARIANT output_q5_0
#include "run.h"
#define VARIANT output_q5_1
#include "run.h"
#define VARIANT output_q5_k
#include "run.h"
#define VARIANT output_q6_k
#include "run.h"
#define VARIANT output_q8_0
#include "run.h"
#define VARIANT glu_one_warp
#include "run.h"
#define VARIANT glu_resident
#include "run.h"
#define VARIANT glu_ring
#include "run.h"
#define VARIANT head_small
#include "run.h"
#define VARIANT head_wide
#include "run.h"
#define VARIANT glu_mxfp4
#include "run.h"
#define VARIANT prefill_embed
#include "run.h"
#define VARIANT prefill_rope
#include "run.h"
#define VARIANT prefill_norm
#include "run.h"
#define VARIANT prefill_output_f32
#include "run.h"
#define VARIANT prefill_output_f16
#include "run.h"
#define VARIANT prefill_output_bf16
#include "run.h"
#define VARIANT prefill_output_q4_0
#include "run.h"
#define VARIANT prefill_output_q4_1
#include "run.h"
#define VARIANT prefill_output_q5_0
#include "run.h"
#define VARIANT prefill_output_q5_1
#include "run.h"
#define VARIANT prefill_output_q8_0
#include "run.h"
#define VARIANT prefill_output_q2_k
#include "run.h"
#define VARIANT prefill_output_q3_k
#include "run.h"
#define VARIANT prefill_output_q4_k
#include "run.h"
#define VARIANT prefill_output_q5_k
#include "run.h"
#define VARIANT prefill_output_q6_k
#include "run.h"
#define VARIANT prefill_output_iq4_nl
#include "run.h"
#define VARIANT prefill_output_iq4_xs
#include "run.h"
#define VARIANT prefill_output_mxfp4
#include "run.h"
#define VARIANT prefill_output_wide
#include "run.h"
#define VARIANT prefill_output_256
#include "run.h"
#define VARIANT prefill_qkv_halves
#include "run.h"
#define VARIANT prefill_qkv_pairs
#include "run.h"
#define VARIANT prefill_glu_q4_k
#include "run.h"
#define VARIANT prefill_glu_f16
#include "run.h"
#define VARIANT prefill_attention_7x64
#include "run.h"
#define VARIANT prefill_attention_2x128
#include "run.h"
#define VARIANT prefill_attention_window
#include "run.h"
#define VARIANT prefill_attention_2x256
#include "run.h"
#define VARIANT qkv_raw
#include "run.h"
#define VARIANT qkv_gpt2
#include "run.h"
#define VARIANT heads_96
#include "run.h"
#define VARIANT heads_256
#include "run.h"
#define VARIANT prefill_heads_80
#include "run.h"
#define VARIANT prefill_heads_128
#include "run.h"
#define VARIANT post_norm
#include "run.h"
#define VARIANT prefill_post_norm
#include "run.h"
#define VARIANT output_raw
#include "run.h"
#define VARIANT output_pairs
#include "run.h"
#define VARIANT attention_5x80
#include "run.h"
#define VARIANT attention_3x256
#include "run.h"
#define VARIANT glu_ungated
#include "run.h"
#define VARIANT glu_bias
#include "run.h"
#define VARIANT head_layer_norm
#include "run.h"
#define VARIANT prefill_embed_learned
#include "run.h"
#define VARIANT prefill_norm_layer
#include "run.h"
#define VARIANT prefill_qkv_raw
#include "run.h"
#define VARIANT prefill_qkv_gpt2
#include "run.h"
#define VARIANT prefill_output_raw
#include "run.h"
#define VARIANT prefill_glu_ungated
#include "run.h"
#define VARIANT prefill_glu_bias
#include "run.h"
#define VARIANT prefill_attention_5x80
#include "run.h"
#define VARIANT route_small
#include "run.h"
#define VARIANT route_wide
#include "run.h"
#define VARIANT experts_glu_ring
#include "run.h"
#define VARIANT experts_glu_resident
#include "run.h"
#define VARIANT experts_glu_f16
#include "run.h"
#define VARIANT experts_down_slices
#include "run.h"
#define VARIANT experts_down_whole
#include "run.h"
#define VARIANT experts_down_f32
#include "run.h"
#define VARIANT experts_down_k
#include "run.h"
#define VARIANT prefill_route_8
#include "run.h"
#define VARIANT prefill_route_2
#include "run.h"
#define VARIANT prefill_group
#include "run.h"
#define VARIANT prefill_gather
#include "run.h"
#define VARIANT prefill_experts_glu
#include "run.h"
#define VARIANT prefill_experts_glu_silu
#include "run.h"
#define VARIANT prefill_experts_down
#include "run.h"
#define VARIANT prefill_experts_sum
#include "run.h"
#define VARIANT glu_formats
#include "run.h"
#define VARIANT glu_formats_resident
#include "run.h"
#define VARIANT prefill_glu_formats
#include "run.h"
#define VARIANT experts_down_pairs
#include "run.h"

const EmulatedStage emulated_stages_90[] = {
    repack_bf16::describe(),
    repack_f16::describe(),
    repack_f32::describe(),
    repack_iq4_nl::describe(),
    repack_iq4_xs::describe(),
    repack_mxfp4::describe(),
    repack_q2_k::describe(),
    repack_q3_k::describe(),
    repack_q4_0::describe(),
    repack_q4_1::describe(),
    repack_q4_k::describe(),
    repack_q5_0::describe(),
    repack_q5_1::describe(),
    repack_q5_k::describe(),
    repack_q6_k::describe(),
    repack_q8_0::describe(),
    qkv_codes::describe(),
    qkv_float::describe(),
    qkv_mixed::describe(),
    qkv_pairs::describe(),
    qkv_ring::describe(),
    qkv_small::describe(),
    attention_12x32::describe(),
    attention_4x128::describe(),
    attention_7x64::describe(),
    attention_window::describe(),
    sample_small::describe(),
    sample_runs::describe(),
    sample_greedy::describe(),
    output_attention::describe(),
    output_attention_sinks::describe(),
    output_bf16::describe(),
    output_f16::describe(),
    output_f32::describe(),
    output_iq4_nl::describe(),
    output_iq4_xs::describe(),
    output_mxfp4::describe(),
    output_q2_k::describe(),
    output_q3_k::describe(),
    output_q4_0::describe(),
    output_q4_1::describe(),
    output_q4_k::describe(),
    output_q5_0::describe(),
    output_q5_1::describe(),
    output_q5_k::describe(),
    output_q6_k::describe(),
    output_q8_0::describe(),
    glu_one_warp::describe(),
    glu_resident::describe(),
    glu_ring::describe(),
    head_small::describe(),
    head_wide::describe(),
    glu_mxfp4::describe(),
    prefill_embed::describe(),
    prefill_rope::describe(),
    prefill_norm::describe(),
    prefill_output_f32::describe(),
    prefill_output_f16::describe(),
    prefill_output_bf16::describe(),
    prefill_output_q4_0::describe(),
    prefill_output_q4_1::describe(),
    prefill_output_q5_0::describe(),
    prefill_output_q5_1::describe(),
    prefill_output_q8_0::describe(),
    prefill_output_q2_k::describe(),
    prefill_output_q3_k::describe(),
    prefill_output_q4_k::describe(),
    prefill_output_q5_k::describe(),
    prefill_output_q6_k::describe(),
    prefill_output_iq4_nl::describe(),
    prefill_output_iq4_xs::describe(),
    prefill_output_mxfp4::describe(),
    prefill_output_wide::describe(),
    prefill_output_256::describe(),
    prefill_qkv_halves::describe(),
    prefill_qkv_pairs::describe(),
    prefill_glu_q4_k::describe(),
    prefill_glu_f16::describe(),
    prefill_attention_7x64::describe(),
    prefill_attention_2x128::describe(),
    prefill_attention_window::describe(),
    prefill_attention_2x256::describe(),
    qkv_raw::describe(),
    qkv_gpt2::describe(),
    heads_96::describe(),
    heads_256::describe(),
    prefill_heads_80::describe(),
    prefill_heads_128::describe(),
    post_norm::describe(),
    prefill_post_norm::describe(),
    output_raw::describe(),
    output_pairs::describe(),
    attention_5x80::describe(),
    attention_3x256::describe(),
    glu_ungated::describe(),
    glu_bias::describe(),
    head_layer_norm::describe(),
    prefill_embed_learned::describe(),
    prefill_norm_layer::describe(),
    prefill_qkv_raw::describe(),
    prefill_qkv_gpt2::describe(),
    prefill_output_raw::describe(),
    prefill_glu_ungated::describe(),
    prefill_glu_bias::describe(),
    prefill_attention_5x80::describe(),
    route_small::describe(),
    route_wide::describe(),
    experts_glu_ring::describe(),
    experts_glu_resident::describe(),
    experts_glu_f16::describe(),
    experts_down_slices::describe(),
    experts_down_whole::describe(),
    experts_down_f32::describe(),
    experts_down_k::describe(),
    prefill_route_8::describe(),
    prefill_route_2::describe(),
    prefill_group::describe(),
    prefill_gather::describe(),
    prefill_experts_glu::describe(),
    prefill_experts_glu_silu::describe(),
    prefill_experts_down::describe(),
    prefill_experts_sum::describe(),
    glu_formats::describe(),
    glu_formats_resident::describe(),
    prefill_glu_formats::describe(),
    experts_down_pairs::describe(),
};
const unsigned n_emulated_stages_90 = sizeof emulated_stages_90 / sizeof emulated_stages_90[0];
