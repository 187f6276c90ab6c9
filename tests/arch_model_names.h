// The models of arch_models.c as names in C ('_' for '-'), for a case each: ARCH_MODEL_NAMES(ROW).
#pragma once

// clang-format off
#define ARCH_MODEL_NAMES(ROW) \
    ROW(llama) ROW(llama_linear) ROW(llama_yarn) ROW(mistral) ROW(mixtral) ROW(qwen2) ROW(qwen3) ROW(qwen3moe) \
    ROW(phi3) ROW(phi3_long) ROW(phi3_short) ROW(gemma3) ROW(gemma3_linear) ROW(gpt_oss) ROW(gpt2)
// clang-format on
