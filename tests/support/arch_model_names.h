// The models of arch_models.c as names in C ('_' for '-'), for a case each: ARCH_MODEL_NAMES(ROW),
// ARCH_ODD_MODEL_NAMES(ROW), and those of arch_family_models.c: ARCH_FAMILY_MODEL_NAMES(ROW).
#pragma once

// clang-format off
#define ARCH_MODEL_NAMES(ROW) \
    ROW(llama) ROW(llama_linear) ROW(llama_yarn) ROW(mistral) ROW(mixtral) ROW(qwen2) ROW(qwen3) ROW(qwen3moe) \
    ROW(phi3) ROW(phi3_long) ROW(phi3_short) ROW(gemma) ROW(gemma2) ROW(gemma3) ROW(gemma3_linear) ROW(gpt_oss) \
    ROW(gpt2)
#define ARCH_FAMILY_MODEL_NAMES(ROW) \
    ROW(smollm3) ROW(seed_oss) ROW(granite) ROW(minicpm) ROW(mistral3) ROW(glm4) ROW(arcee) ROW(ernie4_5) \
    ROW(internlm2) ROW(baichuan) ROW(hunyuan_dense) ROW(command_r) ROW(cohere2) ROW(phi2) ROW(phi2_fused) \
    ROW(falcon) ROW(falcon_7b) ROW(gptneox) ROW(gptneox_sequential) ROW(stablelm) ROW(starcoder2) \
    ROW(olmo2) ROW(olmo3) ROW(exaone4) ROW(exaone4_full) ROW(olmoe) ROW(qwen2moe) ROW(granitemoe) \
    ROW(granitemoe_shared) ROW(glm4moe) ROW(dots1) ROW(bailingmoe2) ROW(ernie4_5_moe) ROW(hunyuan_moe) ROW(gptoss)
// Of them one for each thing that no other model has, for the emulator.
#define ARCH_FAMILY_EMULATED_NAMES(ROW) \
    ROW(smollm3) ROW(granite) ROW(mistral3) ROW(arcee) ROW(hunyuan_dense) ROW(cohere2) ROW(phi2) ROW(falcon) \
    ROW(olmo2) ROW(exaone4) ROW(granitemoe_shared) ROW(bailingmoe2) ROW(ernie4_5_moe)
#define ARCH_MLA_MODEL_NAMES(ROW) \
    ROW(deepseek2_lite) ROW(deepseek2_groups) ROW(deepseek2_v3) ROW(deepseek2_glm) ROW(deepseek2_dense) \
    ROW(deepseek2_older) ROW(odd_deepseek2)
// Those of arch_state_models.c that the GPU runs.
#define ARCH_STATE_MODEL_NAMES(ROW) \
    ROW(lfm2) ROW(qwen35) ROW(nemotron_h) ROW(granite_hybrid) ROW(qwen35moe) ROW(qwen3next) ROW(lfm2moe) \
    ROW(granite_hybrid_moe) ROW(nemotron_h_moe) ROW(nemotron_h_latent)
// Gemma 3n, and Gemma 4, which has heads of two sizes; of these those that have all of the others' stages,
// for the emulator.
#define ARCH_GEMMA_MODEL_NAMES(ROW) \
    ROW(gemma4_31b) ROW(gemma4_e4b) ROW(gemma4_e2b) ROW(gemma4_26b) ROW(odd_gemma4) ROW(gemma3n) ROW(gemma3n_second)
#define ARCH_GEMMA_EMULATED_NAMES(ROW) ROW(gemma4_e4b) ROW(gemma4_26b) ROW(gemma3n)
// Llama 4, Muse Glimmer, and Llama-Nemotron, of which most layers lack something; qwen2moe with a shared
// expert like the others.
#define ARCH_META_MODEL_NAMES(ROW) \
    ROW(llama4_scout) ROW(llama4_maverick) ROW(muse_glimmer) ROW(deci) ROW(alike_qwen2moe)
// Those of both without experts.
#define ARCH_DENSE_MODEL_NAMES(ROW) \
    ROW(llama) ROW(llama_linear) ROW(llama_yarn) ROW(mistral) ROW(qwen2) ROW(qwen3) ROW(phi3) ROW(phi3_long) \
    ROW(gemma) ROW(gemma2) ROW(gemma3) ROW(gpt2) ROW(odd_llama) ROW(odd_qwen2) ROW(odd_qwen3) ROW(odd_gemma3) \
    ROW(odd_phi3)
#define ARCH_ODD_MODEL_NAMES(ROW) \
    ROW(odd_llama) ROW(odd_qwen2) ROW(odd_qwen3) ROW(odd_gemma3) ROW(odd_phi3)
// clang-format on
