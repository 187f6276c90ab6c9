// Tiny models of every architecture, with random weights and only the keys and tensors that such files have:
// for comparing a forward pass with what another program computes from the same file.
//
// 64 values wide, heads of 32, 64 tokens, no tokenizer. Norms before matrices are about 4, so that scores,
// gates and routers are not nearly equal everywhere: a wrong angle, window or expert then moves the logits by
// far more than rounding does. The tokens to run are in the file, too, as "test.tokens".
#pragma once

#include "gguf_builder.h"

enum {
    ARCH_MODEL_VOCAB = 64,
    ARCH_MODEL_PROMPT = 64,
    ARCH_MODEL_DRAWN = 32,
    ARCH_MODEL_TOKENS = ARCH_MODEL_PROMPT + ARCH_MODEL_DRAWN,
    ARCH_MODEL_TOKENS_MAX = 480
};

typedef struct ArchModel ArchModel;

// The index-th model, NULL past the end.
const ArchModel *arch_model_at(uint32_t index);
// More of them, which no other program was asked about: sizes of heads, numbers of heads that share keys and
// formats in mixtures that few files have. For comparing the backends.
const ArchModel *arch_odd_model_at(uint32_t index);
// Models whose layers differ, or whose values are of another width than their keys: for the CPU reference.
const ArchModel *arch_layered_model_at(uint32_t index);
// Models with layers that keep a state.
const ArchModel *arch_state_model_at(uint32_t index);
// Models with a compressed cache.
const ArchModel *arch_mla_model_at(uint32_t index);
// Llama 4's and Muse Glimmer's.
const ArchModel *arch_meta_model_at(uint32_t index);
// Gemma 4's and Gemma 3n's kinds.
const ArchModel *arch_gemma_model_at(uint32_t index);
// The tables of a model that no architecture describes; NULL: those of its architecture.
const struct Arch *arch_model_tables(const ArchModel *m);
// By name, of any kind, in which '_' stands for '-', too; NULL where there is none.
const ArchModel *arch_model_named(const char *name);
// "phi3-long"; its vectors are in vectors/arch/NAME.bin.
const char *arch_model_name(const ArchModel *m);
// "phi3"
const char *arch_model_architecture(const ArchModel *m);
// The whole file. The same bytes each time.
Str arch_model_build(const ArchModel *m);
// The same for another context length than 128 (512 where its text is longer), of at most 2,048.
Str arch_model_build_long(const ArchModel *m, uint32_t context_length);
// The same with another value of one of the model's keys, or with one key more (a u32), or without the key.
enum { ARCH_KEY_ABSENT = -1000 };
Str arch_model_build_with(const ArchModel *m, const char *suffix, double value);
// [ARCH_MODEL_TOKENS]
void arch_model_tokens(int32_t *out);
// The tokens of the text that a model's vectors are of, ARCH_MODEL_TOKENS_MAX at most: the first ones are
// those of arch_model_tokens. Returns how many.
uint32_t arch_model_text(const ArchModel *m, int32_t *out);

// The size of a published model.
typedef struct {
    const char *name;
    const char *like; // the arch_model_named whose tensors and keys it has
    uint32_t layers, d_model, heads, kv_heads, head_dim, ff, vocab, context;
    Dtype dtype;      // of matrices, but for…
    Dtype down_dtype; // …attn_v and ffn_down
    Dtype embd_dtype; // and token_embd and output
} ArchShape;

// The numbers of a compressed cache.
typedef struct {
    uint32_t q_rank, kv_rank, key_dim, value_dim, turned;
} MlaSizes;

// A file of that size whose tensors are zeros, which take no memory until they are looked at.
Str arch_shape_build(const ArchShape *shape);
// The same of a model with a compressed cache; `head_dim` of the shape is what the cache has of a position.
Str arch_shape_build_mla(const ArchShape *shape, const MlaSizes *mla);
