// The variants as compiled for sm_90: stages of prompts.
#define SM_ARCH 90
#include "prelude.h"

#include "stages.h"

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
#define VARIANT prefill_heads_80
#include "run.h"
#define VARIANT prefill_heads_128
#include "run.h"
#define VARIANT prefill_post_norm
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
#define VARIANT prefill_glu_formats
#include "run.h"

const EmulatedStage emulated_stages_90_prefill[] = {
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
    prefill_heads_80::describe(),
    prefill_heads_128::describe(),
    prefill_post_norm::describe(),
    prefill_embed_learned::describe(),
    prefill_norm_layer::describe(),
    prefill_qkv_raw::describe(),
    prefill_qkv_gpt2::describe(),
    prefill_output_raw::describe(),
    prefill_glu_ungated::describe(),
    prefill_glu_bias::describe(),
    prefill_attention_5x80::describe(),
    prefill_route_8::describe(),
    prefill_route_2::describe(),
    prefill_group::describe(),
    prefill_gather::describe(),
    prefill_experts_glu::describe(),
    prefill_experts_glu_silu::describe(),
    prefill_experts_down::describe(),
    prefill_experts_sum::describe(),
    prefill_glu_formats::describe(),
};
const unsigned n_emulated_stages_90_prefill = sizeof emulated_stages_90_prefill / sizeof emulated_stages_90_prefill[0];
