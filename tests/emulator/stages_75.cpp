// The variants as compiled for sm_75.
#define SM_ARCH 75
#include "prelude.h"

#include "stages.h"

#define VARIANT qkv_ring
#include "run.h"
#define VARIANT output_q4_k
#include "run.h"
#define VARIANT attention_7x64
#include "run.h"
#define VARIANT prefill_output_q4_k
#include "run.h"
#define VARIANT prefill_output_q6_k
#include "run.h"
#define VARIANT prefill_output_mxfp4
#include "run.h"
#define VARIANT prefill_output_wide
#include "run.h"
#define VARIANT prefill_qkv_halves
#include "run.h"
#define VARIANT prefill_glu_q4_k
#include "run.h"
#define VARIANT prefill_attention_7x64
#include "run.h"
#define VARIANT prefill_attention_2x128
#include "run.h"
#define VARIANT prefill_attention_2x256
#include "run.h"
#define VARIANT attention_5x80
#include "run.h"
#define VARIANT prefill_glu_ungated
#include "run.h"
#define VARIANT experts_glu_ring
#include "run.h"
#define VARIANT experts_down_slices
#include "run.h"
#define VARIANT prefill_experts_glu
#include "run.h"
#define VARIANT prefill_experts_down
#include "run.h"
#define VARIANT experts_glu_resident
#include "run.h"
#define VARIANT prefill_glu_formats
#include "run.h"
#define VARIANT glu_formats
#include "run.h"
#define VARIANT sample_again
#include "run.h"
#define VARIANT adjust_small
#include "run.h"
#define VARIANT logprobs_small
#include "run.h"

const EmulatedStage emulated_stages_75[] = {
    qkv_ring::describe(),
    output_q4_k::describe(),
    attention_7x64::describe(),
    prefill_output_q4_k::describe(),
    prefill_output_q6_k::describe(),
    prefill_output_mxfp4::describe(),
    prefill_output_wide::describe(),
    prefill_qkv_halves::describe(),
    prefill_glu_q4_k::describe(),
    prefill_attention_7x64::describe(),
    prefill_attention_2x128::describe(),
    prefill_attention_2x256::describe(),
    attention_5x80::describe(),
    prefill_glu_ungated::describe(),
    experts_glu_ring::describe(),
    experts_down_slices::describe(),
    prefill_experts_glu::describe(),
    prefill_experts_down::describe(),
    experts_glu_resident::describe(),
    prefill_glu_formats::describe(),
    glu_formats::describe(),
    sample_again::describe(),
    adjust_small::describe(),
    logprobs_small::describe(),
};
const unsigned n_emulated_stages_75 = sizeof emulated_stages_75 / sizeof emulated_stages_75[0];
