// Tiny models of every architecture, with random weights and only the keys and tensors that such files have:
// for comparing a forward pass with what another program computes from the same file.
//
// 64 values wide, heads of 32, 64 tokens, no tokenizer. Norms before matrices are about 4, so that scores,
// gates and routers are not nearly equal everywhere: a wrong angle, window or expert then moves the logits by
// far more than rounding does. The tokens to run are in the file, too, as "test.tokens".
#pragma once

#include "gguf_builder.h"

enum { ARCH_MODEL_VOCAB = 64, ARCH_MODEL_PROMPT = 64, ARCH_MODEL_TOKENS = ARCH_MODEL_PROMPT + 32 };

typedef struct ArchModel ArchModel;

// The index-th model, NULL past the end.
const ArchModel *arch_model_at(uint32_t index);
// By name, in which '_' stands for '-', too; NULL where there is none.
const ArchModel *arch_model_named(const char *name);
// "phi3-long"; its vectors are in vectors/arch/NAME.bin.
const char *arch_model_name(const ArchModel *m);
// "phi3"
const char *arch_model_architecture(const ArchModel *m);
// The whole file. The same bytes each time.
Str arch_model_build(const ArchModel *m);
// The same for another context length than 128, of at most 1,024.
Str arch_model_build_long(const ArchModel *m, uint32_t context_length);
// [ARCH_MODEL_TOKENS]
void arch_model_tokens(int32_t *out);
