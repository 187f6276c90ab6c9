// Writes GGUF files into memory: small models for tests, and files with any one thing wrong.
//
//     GgufBuilder b = gguf_builder_begin();
//     gguf_builder_put_str(&b, "general.architecture", "llama");
//     gguf_builder_add_tensor(&b, "token_embd.weight", DTYPE_F32, 2, (uint64_t[]){64, 256}, NULL);
//     Str file = gguf_builder_end(&b);
//
// What a builder writes is well-formed unless the caller changes the fields below or writes raw bytes. Memory
// comes from the system and is never given back: a test case is a process of its own. A mistake of the caller
// ends the process.
#pragma once

#include "base/rng.h"
#include "model/gguf.h"

typedef struct {
    uint8_t *ptr;
    size_t len, cap;
} GgufBytes;

typedef struct {
    // The file's head. The counts are those of what was added, plus these differences.
    char magic[4];      // "GGUF"
    uint32_t version;   // 3
    uint32_t alignment; // 32; another one is written as general.alignment by gguf_builder_set_alignment only
    int64_t extra_keys, extra_tensors;

    // Private.
    GgufBytes keys, table, data;
    uint64_t n_keys, n_tensors, n_random;
    uint64_t seed;
} GgufBuilder;

GgufBuilder gguf_builder_begin(void);
// The whole file.
Str gguf_builder_end(const GgufBuilder *b);
// Writes a file; false when it cannot.
bool gguf_builder_save(Str file, const char *path);

// ---- metadata ----

void gguf_builder_put_u32(GgufBuilder *b, const char *key, uint32_t value);
void gguf_builder_put_u64(GgufBuilder *b, const char *key, uint64_t value);
void gguf_builder_put_i32(GgufBuilder *b, const char *key, int32_t value);
void gguf_builder_put_f32(GgufBuilder *b, const char *key, float value);
void gguf_builder_put_bool(GgufBuilder *b, const char *key, bool value);
void gguf_builder_put_str(GgufBuilder *b, const char *key, const char *value);
void gguf_builder_put_strs(GgufBuilder *b, const char *key, const Str *values, uint64_t count);
void gguf_builder_put_f32s(GgufBuilder *b, const char *key, const float *values, uint64_t count);
void gguf_builder_put_i32s(GgufBuilder *b, const char *key, const int32_t *values, uint64_t count);
void gguf_builder_set_alignment(GgufBuilder *b, uint32_t alignment);

// A key whose value's bytes follow from the caller, who writes them with gguf_bytes_… to b->keys.
void gguf_builder_put_key(GgufBuilder *b, Str key, uint32_t type);
void gguf_bytes_put(GgufBytes *bytes, const void *data, size_t size);
void gguf_bytes_put_u8(GgufBytes *bytes, uint8_t value);
void gguf_bytes_put_u32(GgufBytes *bytes, uint32_t value);
void gguf_bytes_put_u64(GgufBytes *bytes, uint64_t value);
void gguf_bytes_put_str(GgufBytes *bytes, Str value); // length and bytes

// ---- tensors ----

// `data` is the tensor's bytes, or NULL for random weights near N(0, 0.02), others for each tensor and seed.
void gguf_builder_add_tensor(GgufBuilder *b, const char *name, Dtype dtype, uint32_t n_dims,
                             const uint64_t *dims, const void *data);
// A row of float32 values, each `center` plus something random below 0.02: norm weights, biases.
void gguf_builder_add_vector(GgufBuilder *b, const char *name, uint64_t length, float center);
// Only a row of the table, with whatever is given, and no data.
void gguf_builder_add_row(GgufBuilder *b, Str name, uint32_t n_dims, const uint64_t *dims, uint32_t type,
                          uint64_t offset);
// Only data; returns their offset.
uint64_t gguf_builder_add_data(GgufBuilder *b, const void *data, size_t size);

// Fills `size` bytes, a multiple of the format's block, with random blocks whose values have the size of real
// weights: a standard deviation of 0.02 to 0.035.
void gguf_fill_random_blocks(Dtype dtype, uint64_t seed, uint8_t *blocks, size_t size);

// ---- whole models ----

// A Llama- or Qwen2-shaped model with random weights and a complete byte-level BPE vocabulary (256 bytes,
// some English merges, filler tokens, special tokens), so that any text can be encoded. Its text is noise.
typedef struct {
    const char *architecture; // "llama" or "qwen2": with biases of q, k, v
    const char *name;
    uint32_t context, embedding, layers, ff, heads, kv_heads, vocab;
    float rope_base;
    bool tied;        // no output.weight
    bool no_template; // no tokenizer.chat_template
    bool adds_bos;    // in front of a text
    Dtype dtype;      // of matrices; of the layers' first one where mixed
    bool mixed;       // the layers' matrices take all formats in turn, gate and up one of them together
    Dtype embd_dtype; // of token_embd and output
    uint64_t seed;
} TinyModel;

// 2 layers, 256 wide, 8 heads over 2, 1,024 tokens, Q4_K with Q6_K embeddings, 2,048 tokens of context; about
// 0.8 MB.
TinyModel tiny_model_llama(void);
// With 18 formats, from `dtype` on, in three layers; IQ3_S embeddings.
TinyModel tiny_model_mixed(void);

// Everything but the tensors, for tests that change one of them; then the tensors.
void tiny_model_put_metadata(GgufBuilder *b, const TinyModel *m);
void tiny_model_add_tensors(GgufBuilder *b, const TinyModel *m);
// All of it as a file in memory.
Str tiny_model_build(const TinyModel *m);
// All of it as a file on disk; ends the process where that cannot be written.
void tiny_model_save(const TinyModel *m, const char *path);
