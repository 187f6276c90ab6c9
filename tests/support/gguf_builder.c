#include "gguf_builder.h"

#include "base/f16.h"
#include "base/utf8.h"

#include <stdio.h>
#include <stdlib.h>

static _Noreturn void give_up(const char *what) {
    fprintf(stderr, "gguf_builder: %s\n", what);
    abort();
}

// ---- bytes ----

enum { BUFFER_BYTES = 1 << 30 }; // address space; only what is written costs memory

static GgufBytes bytes_begin(void) {
    GgufBytes bytes = {.ptr = os_reserve(BUFFER_BYTES), .cap = BUFFER_BYTES};
    if (!bytes.ptr) give_up("no address space");
    return bytes;
}

static uint8_t *bytes_extend(GgufBytes *bytes, size_t size) {
    if (size > bytes->cap - bytes->len) give_up("file over 1 GiB");
    uint8_t *at = bytes->ptr + bytes->len;
    bytes->len += size;
    return at;
}

void gguf_bytes_put(GgufBytes *bytes, const void *data, size_t size) {
    uint8_t *at = bytes_extend(bytes, size);
    if (size) memcpy(at, data, size);
}

void gguf_bytes_put_u8(GgufBytes *bytes, uint8_t value) {
    gguf_bytes_put(bytes, &value, sizeof value);
}

void gguf_bytes_put_u32(GgufBytes *bytes, uint32_t value) {
    gguf_bytes_put(bytes, &value, sizeof value);
}

void gguf_bytes_put_u64(GgufBytes *bytes, uint64_t value) {
    gguf_bytes_put(bytes, &value, sizeof value);
}

void gguf_bytes_put_str(GgufBytes *bytes, Str value) {
    gguf_bytes_put_u64(bytes, value.len);
    gguf_bytes_put(bytes, value.ptr, value.len);
}

// The pages are fresh from the system: zeros.
static void bytes_align(GgufBytes *bytes, size_t alignment) {
    bytes_extend(bytes, align_up(bytes->len, alignment) - bytes->len);
}

// ---- files ----

GgufBuilder gguf_builder_begin(void) {
    return (GgufBuilder){
        .magic = {'G', 'G', 'U', 'F'},
        .version = 3,
        .alignment = 32,
        .keys = bytes_begin(),
        .table = bytes_begin(),
        .data = bytes_begin(),
        .seed = 1,
    };
}

Str gguf_builder_end(const GgufBuilder *b) {
    GgufBytes file = bytes_begin();
    gguf_bytes_put(&file, b->magic, sizeof b->magic);
    gguf_bytes_put_u32(&file, b->version);
    gguf_bytes_put_u64(&file, b->n_tensors + (uint64_t)b->extra_tensors);
    gguf_bytes_put_u64(&file, b->n_keys + (uint64_t)b->extra_keys);
    gguf_bytes_put(&file, b->keys.ptr, b->keys.len);
    gguf_bytes_put(&file, b->table.ptr, b->table.len);
    bytes_align(&file, b->alignment);
    gguf_bytes_put(&file, b->data.ptr, b->data.len);
    return (Str){(const char *)file.ptr, file.len};
}

bool gguf_builder_save(Str file, const char *path) {
    FILE *out = fopen(path, "wb");
    if (!out) return false;
    bool ok = file.len == 0 || fwrite(file.ptr, 1, file.len, out) == file.len;
    return fclose(out) == 0 && ok;
}

// ---- metadata ----

void gguf_builder_put_key(GgufBuilder *b, Str key, uint32_t type) {
    gguf_bytes_put_str(&b->keys, key);
    gguf_bytes_put_u32(&b->keys, type);
    b->n_keys++;
}

static void put_fixed(GgufBuilder *b, const char *key, GgufType type, const void *value, size_t size) {
    gguf_builder_put_key(b, str_from_c(key), type);
    gguf_bytes_put(&b->keys, value, size);
}

static void put_array_head(GgufBuilder *b, const char *key, GgufType type, uint64_t count) {
    gguf_builder_put_key(b, str_from_c(key), GGUF_ARRAY);
    gguf_bytes_put_u32(&b->keys, type);
    gguf_bytes_put_u64(&b->keys, count);
}

void gguf_builder_put_u32(GgufBuilder *b, const char *key, uint32_t value) {
    put_fixed(b, key, GGUF_U32, &value, sizeof value);
}

void gguf_builder_put_u64(GgufBuilder *b, const char *key, uint64_t value) {
    put_fixed(b, key, GGUF_U64, &value, sizeof value);
}

void gguf_builder_put_i32(GgufBuilder *b, const char *key, int32_t value) {
    put_fixed(b, key, GGUF_I32, &value, sizeof value);
}

void gguf_builder_put_f32(GgufBuilder *b, const char *key, float value) {
    put_fixed(b, key, GGUF_F32, &value, sizeof value);
}

void gguf_builder_put_bool(GgufBuilder *b, const char *key, bool value) {
    put_fixed(b, key, GGUF_BOOL, &(uint8_t){value}, 1);
}

void gguf_builder_put_str(GgufBuilder *b, const char *key, const char *value) {
    gguf_builder_put_key(b, str_from_c(key), GGUF_STRING);
    gguf_bytes_put_str(&b->keys, str_from_c(value));
}

void gguf_builder_put_strs(GgufBuilder *b, const char *key, const Str *values, uint64_t count) {
    put_array_head(b, key, GGUF_STRING, count);
    for (uint64_t i = 0; i < count; i++)
        gguf_bytes_put_str(&b->keys, values[i]);
}

void gguf_builder_put_f32s(GgufBuilder *b, const char *key, const float *values, uint64_t count) {
    put_array_head(b, key, GGUF_F32, count);
    gguf_bytes_put(&b->keys, values, count * sizeof *values);
}

void gguf_builder_put_i32s(GgufBuilder *b, const char *key, const int32_t *values, uint64_t count) {
    put_array_head(b, key, GGUF_I32, count);
    gguf_bytes_put(&b->keys, values, count * sizeof *values);
}

void gguf_builder_set_alignment(GgufBuilder *b, uint32_t alignment) {
    gguf_builder_put_u32(b, "general.alignment", alignment);
    b->alignment = alignment;
}

// ---- random weights ----

// Blocks get random codes; these fields then make the values of the right size (standard deviation 0.02), as
// float16.
typedef struct {
    Dtype dtype;
    int scale_at, minimum_at; // -1: none
    double scale, minimum;
} BlockFields;

#define SIGMA 0.02
static const BlockFields block_fields[] = {
    {DTYPE_Q4_0, 0, -1, SIGMA / 4.6, 0},
    {DTYPE_Q4_1, 0, 2, SIGMA / 4.6, -7.5 * SIGMA / 4.6},
    {DTYPE_Q5_0, 0, -1, SIGMA / 9.2, 0},
    {DTYPE_Q5_1, 0, 2, SIGMA / 9.2, -15.5 * SIGMA / 9.2},
    {DTYPE_Q8_0, 0, -1, SIGMA / 74, 0},
    {DTYPE_Q2_K, 80, 82, SIGMA / 10, 1.5 * SIGMA / 10},
    {DTYPE_Q3_K, 108, -1, SIGMA / 45, 0},
    {DTYPE_Q4_K, 0, 2, SIGMA / (20 * 7.5), SIGMA / 20},
    {DTYPE_Q5_K, 0, 2, SIGMA / (20 * 15.5), SIGMA / 20},
    {DTYPE_Q6_K, 208, -1, SIGMA / 170, 0},
    {DTYPE_IQ4_NL, 0, -1, SIGMA / 64, 0},
    {DTYPE_IQ4_XS, 0, -1, SIGMA / 1200, 0},
    {DTYPE_TQ1_0, 52, -1, SIGMA * 1.2, 0},
    {DTYPE_TQ2_0, 64, -1, SIGMA / 1.3, 0},
    {DTYPE_Q1_0, 0, -1, SIGMA, 0},
    {DTYPE_Q2_0, 0, -1, SIGMA / 1.3, 0},
    {DTYPE_IQ1_S, 0, -1, SIGMA / 7, 0},
    {DTYPE_IQ2_XXS, 0, -1, SIGMA / 60, 0},
    {DTYPE_IQ2_XS, 0, -1, SIGMA / 60, 0},
    {DTYPE_IQ2_S, 0, -1, SIGMA / 60, 0},
    {DTYPE_IQ3_XXS, 0, -1, SIGMA / 140, 0},
    {DTYPE_IQ3_S, 0, -1, SIGMA / 150, 0},
};

static void put_half(uint8_t *at, double value) {
    uint16_t half = f16_from_f32((float)value);
    memcpy(at, &half, sizeof half);
}

// Sixteen random bytes a counter.
static void fill_random(uint64_t seed, uint8_t *out, size_t size) {
    for (size_t i = 0; i < size; i += sizeof(RngBlock)) {
        RngBlock block = rng_philox(seed, i);
        memcpy(out + i, &block, min_u64(sizeof block, size - i));
    }
}

// Near N(0, SIGMA): the sum of four uniform numbers.
static float random_weight(uint64_t seed, uint64_t index) {
    RngBlock block = rng_philox(seed, index);
    double sum = -2;
    for (int i = 0; i < 4; i++)
        sum += block.word[i] * 0x1p-32;
    return (float)(sum * 1.7320508 * SIGMA); // the sum's variance is 4 / 12
}

static void fill_floats(Dtype dtype, uint64_t seed, uint8_t *out, size_t count) {
    for (size_t i = 0; i < count; i++) {
        float value = random_weight(seed, i);
        uint16_t half = dtype == DTYPE_F16 ? f16_from_f32(value) : (uint16_t)(f32_to_bits(value) >> 16);
        if (dtype == DTYPE_F32) memcpy(out + 4 * i, &value, sizeof value);
        else memcpy(out + 2 * i, &half, sizeof half);
    }
}

static void fix_block(Dtype dtype, uint8_t *block) {
    if (dtype == DTYPE_MXFP4) block[0] = (uint8_t)(118 + block[0] % 3);
    for (int i = 0; dtype == DTYPE_NVFP4 && i < 4; i++) // subnormal: 2^-9 times
        block[i] = (uint8_t)(2 + block[i] % 4);
    for (int i = 0; dtype == DTYPE_IQ1_M && i < 4; i++) // the scale's nibbles
        block[49 + 2 * i] = (uint8_t)((block[49 + 2 * i] & 15) | (0x19A0 >> 4 * i & 15) << 4);
    if (dtype == DTYPE_Q6_K) // sub-scales of -16 … 15
        for (int i = 192; i < 208; i++)
            block[i] = (uint8_t)(block[i] % 32 - 16);
    for (size_t i = 0; i < COUNT_OF(block_fields); i++) {
        const BlockFields *f = &block_fields[i];
        if (f->dtype != dtype) continue;
        put_half(block + f->scale_at, f->scale);
        if (f->minimum_at >= 0) put_half(block + f->minimum_at, f->minimum);
    }
}

void gguf_fill_random_blocks(Dtype dtype, uint64_t seed, uint8_t *blocks, size_t size) {
    const DtypeInfo *info = dtype_info(dtype);
    if (size % info->block_bytes) give_up("no whole number of blocks");
    if (info->block_elements == 1) {
        fill_floats(dtype, seed, blocks, size / info->block_bytes);
        return;
    }
    fill_random(seed, blocks, size);
    for (size_t at = 0; at < size; at += info->block_bytes)
        fix_block(dtype, blocks + at);
}

// ---- tensors ----

uint64_t gguf_builder_add_data(GgufBuilder *b, const void *data, size_t size) {
    bytes_align(&b->data, b->alignment);
    uint64_t offset = b->data.len;
    gguf_bytes_put(&b->data, data, size);
    return offset;
}

void gguf_builder_add_row(GgufBuilder *b, Str name, uint32_t n_dims, const uint64_t *dims, uint32_t type,
                          uint64_t offset) {
    gguf_bytes_put_str(&b->table, name);
    gguf_bytes_put_u32(&b->table, n_dims);
    for (uint32_t i = 0; i < n_dims; i++)
        gguf_bytes_put_u64(&b->table, dims[i]);
    gguf_bytes_put_u32(&b->table, type);
    gguf_bytes_put_u64(&b->table, offset);
    b->n_tensors++;
}

// A seed of its own for each random tensor.
static uint64_t next_seed(GgufBuilder *b) {
    return b->seed << 20 | b->n_random++;
}

void gguf_builder_add_tensor(GgufBuilder *b, const char *name, Dtype dtype, uint32_t n_dims,
                             const uint64_t *dims, const void *data) {
    uint64_t rows = 1;
    for (uint32_t i = 1; i < n_dims; i++)
        rows *= dims[i];
    if (dims[0] % dtype_info(dtype)->block_elements) give_up("rows are no whole number of blocks");
    size_t size = rows * dtype_row_bytes(dtype, dims[0]);
    bytes_align(&b->data, b->alignment);
    gguf_builder_add_row(b, str_from_c(name), n_dims, dims, dtype_info(dtype)->ggml_id, b->data.len);
    uint8_t *at = bytes_extend(&b->data, size);
    if (data) memcpy(at, data, size);
    else gguf_fill_random_blocks(dtype, next_seed(b), at, size);
}

void gguf_builder_add_vector(GgufBuilder *b, const char *name, uint64_t length, float center) {
    bytes_align(&b->data, b->alignment);
    gguf_builder_add_row(b, str_from_c(name), 1, &length, dtype_info(DTYPE_F32)->ggml_id, b->data.len);
    uint64_t seed = next_seed(b);
    for (uint64_t i = 0; i < length; i++) {
        float value = center + random_weight(seed, i);
        gguf_bytes_put(&b->data, &value, sizeof value);
    }
}

// ---- vocabulary ----

// Byte-level BPE: GPT-2's printable character for each byte, then one token a merge.
static const char *const merges[] = {
    "Ġ t",  "Ġ a", "h e",  "i n",  "r e",  "o n",  "Ġt he", "e r",  "Ġ s",   "a t",  "Ġ w", "Ġ o", "e n",
    "Ġ c",  "i t", "i s",  "a n",  "o r",  "e s",  "Ġ b",   "e d",  "Ġ f",   "in g", "Ġ p", "o u", "Ġa n",
    "a l",  "a r", "Ġt o", "Ġ m",  "Ġo f", "Ġ in", "Ġ d",   "Ġ h",  "Ġan d", "i c",  "a s", "l e", "Ġt h",
    "i on", "o m", "l l",  "en t", "Ġ n",  "Ġ l",  "s t",   "Ġ re", "v e",   "Ġ e",
};
static const char *const llama_specials[] = {"<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>",
                                             "<|end_header_id|>"};
static const char *const qwen_specials[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
static const char chatml[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + "
    "'<|im_end|>' + "
    "'\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

enum { TOKEN_NORMAL = 1, TOKEN_CONTROL = 3, TOKEN_UNUSED = 5, N_MERGES = COUNT_OF(merges) };

typedef struct {
    Str *tokens;
    int32_t *types;
    uint32_t count;
    Arena arena;
} Vocabulary;

static void vocabulary_add(Vocabulary *v, Str token, int32_t type) {
    v->tokens[v->count] = arena_copy_str(&v->arena, token);
    v->types[v->count++] = type;
}

static void vocabulary_add_bytes(Vocabulary *v) {
    uint32_t unprintable = 0;
    for (uint32_t byte = 0; byte < 256; byte++) {
        bool printable = (byte > 32 && byte < 127) || (byte > 160 && byte < 173) || byte > 173;
        char text[4];
        size_t length = utf8_encode(printable ? byte : 256 + unprintable++, text);
        vocabulary_add(v, (Str){text, length}, TOKEN_NORMAL);
    }
}

static void vocabulary_add_merges(Vocabulary *v) {
    for (uint32_t i = 0; i < N_MERGES; i++) {
        char token[32];
        const char *space = strchr(merges[i], ' ');
        int length = snprintf(token, sizeof token, "%.*s%s", (int)(space - merges[i]), merges[i], space + 1);
        vocabulary_add(v, (Str){token, (size_t)length}, TOKEN_NORMAL);
    }
}

static void put_vocabulary(GgufBuilder *b, uint32_t size, const char *pre, const char *const *specials,
                           uint32_t n_specials, uint32_t bos, uint32_t eos, bool adds_bos) {
    if (size < 256 + N_MERGES + n_specials) give_up("the vocabulary is too small");
    Vocabulary v = {.arena = os_arena(64u << 20)};
    v.tokens = arena_new(&v.arena, Str, size);
    v.types = arena_new(&v.arena, int32_t, size);
    if (!v.tokens || !v.types) give_up("the vocabulary is too large");
    vocabulary_add_bytes(&v);
    vocabulary_add_merges(&v);
    while (v.count < size - n_specials) {
        char token[32];
        int length = snprintf(token, sizeof token, "<filler%u>", v.count);
        vocabulary_add(&v, (Str){token, (size_t)length}, TOKEN_UNUSED);
    }
    uint32_t first_special = v.count;
    for (uint32_t i = 0; i < n_specials; i++)
        vocabulary_add(&v, str_from_c(specials[i]), TOKEN_CONTROL);
    Str merge_strs[N_MERGES];
    for (uint32_t i = 0; i < N_MERGES; i++)
        merge_strs[i] = str_from_c(merges[i]);
    gguf_builder_put_str(b, "tokenizer.ggml.model", "gpt2");
    gguf_builder_put_str(b, "tokenizer.ggml.pre", pre);
    gguf_builder_put_strs(b, "tokenizer.ggml.tokens", v.tokens, v.count);
    gguf_builder_put_i32s(b, "tokenizer.ggml.token_type", v.types, v.count);
    gguf_builder_put_strs(b, "tokenizer.ggml.merges", merge_strs, N_MERGES);
    gguf_builder_put_u32(b, "tokenizer.ggml.bos_token_id", first_special + bos);
    gguf_builder_put_u32(b, "tokenizer.ggml.eos_token_id", first_special + eos);
    gguf_builder_put_bool(b, "tokenizer.ggml.add_bos_token", adds_bos);
}

// ---- whole models ----

TinyModel tiny_model_llama(void) {
    return (TinyModel){
        .architecture = "llama",
        .name = "Llama-tiny",
        .context = 2048,
        .embedding = 256,
        .layers = 2,
        .ff = 512,
        .heads = 8,
        .kv_heads = 2,
        .vocab = 1024,
        .rope_base = 5e5f,
        .dtype = DTYPE_Q4_K,
        .embd_dtype = DTYPE_Q6_K,
        .seed = 1,
    };
}

TinyModel tiny_model_mixed(void) {
    TinyModel m = tiny_model_llama();
    m.layers = 3;
    m.mixed = true;
    m.dtype = DTYPE_IQ4_XS;
    m.embd_dtype = DTYPE_IQ3_S;
    return m;
}

static bool has_biases(const TinyModel *m) {
    return strcmp(m->architecture, "qwen2") == 0;
}

void tiny_model_put_metadata(GgufBuilder *b, const TinyModel *m) {
    const struct {
        const char *key;
        uint32_t value;
    } numbers[] = {
        {"context_length", m->context},
        {"embedding_length", m->embedding},
        {"block_count", m->layers},
        {"feed_forward_length", m->ff},
        {"attention.head_count", m->heads},
        {"attention.head_count_kv", m->kv_heads},
        {"rope.dimension_count", m->embedding / m->heads},
        {"vocab_size", m->vocab},
    };
    char key[96];
    gguf_builder_put_str(b, "general.architecture", m->architecture);
    gguf_builder_put_str(b, "general.name", m->name);
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        snprintf(key, sizeof key, "%s.%s", m->architecture, numbers[i].key);
        gguf_builder_put_u32(b, key, numbers[i].value);
    }
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", m->architecture);
    gguf_builder_put_f32(b, key, 1e-5f);
    snprintf(key, sizeof key, "%s.rope.freq_base", m->architecture);
    gguf_builder_put_f32(b, key, m->rope_base);
    if (has_biases(m))
        put_vocabulary(b, m->vocab, "qwen2", qwen_specials, COUNT_OF(qwen_specials), 0, 2, m->adds_bos);
    else
        put_vocabulary(b, m->vocab, "llama-bpe", llama_specials, COUNT_OF(llama_specials), 0, 1, m->adds_bos);
    if (!m->no_template) gguf_builder_put_str(b, "tokenizer.chat_template", chatml);
}

static void add_layer(GgufBuilder *b, const TinyModel *m, uint32_t layer) {
    uint64_t d = m->embedding, kv = d / m->heads * m->kv_heads;
    const struct {
        const char *name;
        uint64_t columns, rows;
        bool bias;
    } matrices[] = {
        {"attn_q", d, d, true},        {"attn_k", d, kv, true},       {"attn_v", d, kv, true},
        {"attn_output", d, d, false},  {"ffn_gate", d, m->ff, false}, {"ffn_up", d, m->ff, false},
        {"ffn_down", m->ff, d, false},
    };
    enum { GATE = 4, FORMATS = 6 }; // of a layer
    char name[64];
    for (size_t i = 0; i < COUNT_OF(matrices); i++) {
        uint32_t turn = m->mixed ? layer * FORMATS + (uint32_t)i - (i > GATE) : 0;
        Dtype dtype = (Dtype)(((uint32_t)m->dtype + turn) % DTYPE_COUNT);
        snprintf(name, sizeof name, "blk.%u.%s.weight", layer, matrices[i].name);
        gguf_builder_add_tensor(b, name, dtype, 2, (uint64_t[]){matrices[i].columns, matrices[i].rows}, NULL);
        if (!matrices[i].bias || !has_biases(m)) continue;
        snprintf(name, sizeof name, "blk.%u.%s.bias", layer, matrices[i].name);
        gguf_builder_add_vector(b, name, matrices[i].rows, 0);
    }
    snprintf(name, sizeof name, "blk.%u.attn_norm.weight", layer);
    gguf_builder_add_vector(b, name, d, 1);
    snprintf(name, sizeof name, "blk.%u.ffn_norm.weight", layer);
    gguf_builder_add_vector(b, name, d, 1);
}

void tiny_model_add_tensors(GgufBuilder *b, const TinyModel *m) {
    b->seed = m->seed;
    const uint64_t embedding_dims[] = {m->embedding, m->vocab};
    gguf_builder_add_tensor(b, "token_embd.weight", m->embd_dtype, 2, embedding_dims, NULL);
    gguf_builder_add_vector(b, "output_norm.weight", m->embedding, 1);
    if (!m->tied) gguf_builder_add_tensor(b, "output.weight", m->embd_dtype, 2, embedding_dims, NULL);
    for (uint32_t layer = 0; layer < m->layers; layer++)
        add_layer(b, m, layer);
}

Str tiny_model_build(const TinyModel *m) {
    GgufBuilder b = gguf_builder_begin();
    tiny_model_put_metadata(&b, m);
    tiny_model_add_tensors(&b, m);
    return gguf_builder_end(&b);
}

void tiny_model_save(const TinyModel *m, const char *path) {
    if (!gguf_builder_save(tiny_model_build(m), path)) give_up("the model cannot be written");
}
