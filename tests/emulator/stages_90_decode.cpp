// The variants as compiled for sm_90: stages of decoding and drawing.
#define SM_ARCH 90
#include "prelude.h"

#include "stages.h"

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
#define VARIANT adjust_small
#include "run.h"
#define VARIANT adjust_tiny
#include "run.h"
#define VARIANT logprobs_small
#include "run.h"
#define VARIANT logprobs_tiny
#include "run.h"
#define VARIANT logprobs_few
#include "run.h"
#define VARIANT logprobs_wide
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
#define VARIANT qkv_raw
#include "run.h"
#define VARIANT qkv_gpt2
#include "run.h"
#define VARIANT heads_96
#include "run.h"
#define VARIANT heads_256
#include "run.h"
#define VARIANT post_norm
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
#define VARIANT glu_formats
#include "run.h"
#define VARIANT glu_formats_resident
#include "run.h"
#define VARIANT experts_down_pairs
#include "run.h"

const EmulatedStage emulated_stages_90_decode[] = {
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
    adjust_small::describe(),
    adjust_tiny::describe(),
    logprobs_small::describe(),
    logprobs_tiny::describe(),
    logprobs_few::describe(),
    logprobs_wide::describe(),
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
    qkv_raw::describe(),
    qkv_gpt2::describe(),
    heads_96::describe(),
    heads_256::describe(),
    post_norm::describe(),
    output_raw::describe(),
    output_pairs::describe(),
    attention_5x80::describe(),
    attention_3x256::describe(),
    glu_ungated::describe(),
    glu_bias::describe(),
    head_layer_norm::describe(),
    route_small::describe(),
    route_wide::describe(),
    experts_glu_ring::describe(),
    experts_glu_resident::describe(),
    experts_glu_f16::describe(),
    experts_down_slices::describe(),
    experts_down_whole::describe(),
    experts_down_f32::describe(),
    experts_down_k::describe(),
    glu_formats::describe(),
    glu_formats_resident::describe(),
    experts_down_pairs::describe(),
};
const unsigned n_emulated_stages_90_decode = sizeof emulated_stages_90_decode / sizeof emulated_stages_90_decode[0];
