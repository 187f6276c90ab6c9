// Plans of well-made files, and the errors of files that are not what their architecture's tables say.
#include "arch_models.h"
#include "gguf_builder.h"
#include "os/os.h"
#include "plan/config.h"
#include "plan/plan.h"
#include "plan/rope.h"
#include "runner.h"

#include <math.h>
#include <stdio.h>

// A two-layer model of 64 values, written key by key, so that a row can change any one thing.
typedef struct {
    const char *name;
    const char *architecture;
    // One metadata key: left out (value 0 and text NULL), or with another value.
    const char *key;
    double value;
    const char *text;
    // One tensor: left out (rows 0), or with another shape or type.
    const char *tensor;
    uint64_t cols, rows;
    Dtype dtype;
    // One tensor more.
    const char *extra;
    const char *message; // NULL: the plan is built
} Row;

enum { WIDTH = 64, KV = 32, FF = 96, VOCAB = 40, LAYERS = 2 };

static void put_key(GgufBuilder *b, const Row *row, const char *suffix, double value, bool is_float) {
    char key[96];
    snprintf(key, sizeof key, "%s.%s", row->architecture, suffix);
    bool named = row->key && strcmp(row->key, suffix) == 0;
    if (named && row->text) {
        gguf_builder_put_str(b, key, row->text);
        return;
    }
    if (named) value = row->value;
    if (named && value == 0 && !signbit(row->value)) return;
    if (is_float) gguf_builder_put_f32(b, key, (float)value);
    else if (value != 0 || named) gguf_builder_put_u32(b, key, (uint32_t)value);
}

static void add_tensor(GgufBuilder *b, const Row *row, const char *name, Dtype dtype, uint64_t cols,
                       uint64_t rows) {
    if (row->tensor && strcmp(row->tensor, name) == 0) {
        if (row->cols == 0) return;
        cols = row->cols;
        rows = row->rows;
        dtype = row->dtype;
    }
    gguf_builder_add_tensor(b, name, dtype, rows > 1 ? 2 : 1, (uint64_t[]){cols, rows}, NULL);
}

static void add_layer(GgufBuilder *b, const Row *row, uint32_t layer) {
    static const struct {
        const char *suffix;
        Dtype dtype;
        uint64_t cols, rows;
    } tensors[] = {
        {"attn_norm.weight", DTYPE_F32, WIDTH, 1},        {"attn_q.weight", DTYPE_Q8_0, WIDTH, WIDTH},
        {"attn_k.weight", DTYPE_Q4_0, WIDTH, KV},         {"attn_v.weight", DTYPE_F16, WIDTH, KV},
        {"attn_output.weight", DTYPE_Q8_0, WIDTH, WIDTH}, {"ffn_norm.weight", DTYPE_F32, WIDTH, 1},
        {"ffn_gate.weight", DTYPE_Q8_0, WIDTH, FF},       {"ffn_up.weight", DTYPE_Q8_0, WIDTH, FF},
        {"ffn_down.weight", DTYPE_Q8_0, FF, WIDTH}};
    static const struct {
        const char *suffix;
        uint64_t width;
    } biases[] = {{"attn_q.bias", WIDTH}, {"attn_k.bias", KV}, {"attn_v.bias", KV}};
    char name[96];
    for (size_t i = 0; i < COUNT_OF(tensors); i++) {
        snprintf(name, sizeof name, "blk.%u.%s", layer, tensors[i].suffix);
        add_tensor(b, row, name, tensors[i].dtype, tensors[i].cols, tensors[i].rows);
    }
    for (size_t i = 0; i < COUNT_OF(biases) && strcmp(row->architecture, "qwen2") == 0; i++) {
        snprintf(name, sizeof name, "blk.%u.%s", layer, biases[i].suffix);
        add_tensor(b, row, name, DTYPE_F32, biases[i].width, 1);
    }
}

static const GgufFile *parse_file(const GgufBuilder *b, Arena *arena) {
    Str bytes = gguf_builder_end(b);
    GgufPart *part = arena_new(arena, GgufPart, 1);
    *part = (GgufPart){.data = (const uint8_t *)bytes.ptr, .size = bytes.len, .name = "test.gguf"};
    const GgufFile *file = NULL;
    Error err = {0};
    CHECK(gguf_parse(part, 1, arena, &file, &err));
    CHECK_STR_EQ("", err.message);
    return file;
}

static const GgufFile *build_file(const Row *row, Arena *arena) {
    GgufBuilder b = gguf_builder_begin();
    gguf_builder_put_str(&b, "general.architecture", row->architecture);
    put_key(&b, row, "block_count", LAYERS, false);
    put_key(&b, row, "context_length", 128, false);
    put_key(&b, row, "embedding_length", WIDTH, false);
    put_key(&b, row, "feed_forward_length", FF, false);
    put_key(&b, row, "attention.head_count", 4, false);
    put_key(&b, row, "attention.head_count_kv", 2, false);
    put_key(&b, row, "attention.layer_norm_rms_epsilon", 1e-5, true);
    put_key(&b, row, "rope.freq_base", 10000, true);
    static const char *const rare[] = {
        "attention.key_length",     "rope.dimension_count",    "expert_count",
        "rope.scaling.type",        "rope.scaling.factor",     "attention.value_length",
        "attention.sliding_window", "final_logit_softcapping", "logit_scale"};
    for (size_t i = 0; i < COUNT_OF(rare); i++) {
        if (row->key && strcmp(row->key, rare[i]) == 0) put_key(&b, row, rare[i], 0, false);
    }
    add_tensor(&b, row, "token_embd.weight", DTYPE_Q8_0, WIDTH, VOCAB);
    add_tensor(&b, row, "output_norm.weight", DTYPE_F32, WIDTH, 1);
    for (uint32_t layer = 0; layer < LAYERS; layer++)
        add_layer(&b, row, layer);
    if (row->extra) gguf_builder_add_tensor(&b, row->extra, DTYPE_F32, 1, (uint64_t[]){8}, NULL);
    return parse_file(&b, arena);
}

static const Row ERROR_ROWS[] = {
    {"good llama", "llama", .message = NULL},
    {"good qwen2", "qwen2", .message = NULL},
    {"head count defaults", "llama", .key = "attention.head_count_kv", .value = 4, .tensor = "none",
     .message = "tensor \"blk.0.attn_k.weight\": expected shape [64, 64], found [32, 64]"},
    {"unknown architecture", "mamba",
     .message = "general.architecture: \"mamba\" is not supported; supported: llama, qwen2"},
    {"no layers key", "llama", .key = "block_count", .message = "\"llama.block_count\""},
    {"too many layers", "llama", .key = "block_count", .value = 100000,
     .message = "llama.block_count is 100000; expected 1 to 512"},
    {"a layer more than there is", "llama", .key = "block_count", .value = 3,
     .message = "tensor \"blk.2.attn_norm.weight\" is missing; architecture llama needs it"},
    {"a layer less than there is", "llama", .key = "block_count", .value = 1,
     .message = "tensor \"blk.1.attn_norm.weight\": architecture llama has no use for it"},
    {"heads do not divide", "llama", .key = "attention.head_count_kv", .value = 3,
     .message = "llama.attention.head_count is 4, not a multiple of head_count_kv 3"},
    {"more KV heads than heads", "llama", .key = "attention.head_count_kv", .value = 8,
     .message = "llama.attention.head_count_kv is 8; expected 1 to 4"},
    {"mistyped key", "llama", .key = "embedding_length", .text = "wide",
     .message = "\"llama.embedding_length\""},
    {"rope dimensions above the head's", "llama", .key = "rope.dimension_count", .value = 18,
     .message = "llama.rope.dimension_count is 18; expected 0 to 16"},
    {"odd rope dimensions", "llama", .key = "rope.dimension_count", .value = 7,
     .message = "llama.rope.dimension_count is 7, not even"},
    {"rope base of zero", "llama", .key = "rope.freq_base", .value = -0.0,
     .message = "llama.rope: freq_base is -0"},
    {"epsilon of two", "llama", .key = "attention.layer_norm_rms_epsilon", .value = 2,
     .message = "llama: the norm's epsilon is 2; expected 0 to 1"},
    {"unknown rope scaling", "llama", .key = "rope.scaling.type", .text = "su",
     .message =
         "llama.rope.scaling.type: RoPE scaling \"su\" is not supported; supported: none, linear, yarn, "
         "longrope"},
    {"experts", "qwen2", .key = "expert_count", .value = 8,
     .message = "key \"qwen2.expert_count\": mixtures of experts of architecture qwen2 are not supported"},
    {"capped logits", "llama", .key = "final_logit_softcapping", .value = 30,
     .message =
         "key \"llama.final_logit_softcapping\": capped logits of architecture llama are not supported"},
    {"logits scaled by one", "qwen2", .key = "logit_scale", .value = 1, .message = NULL},
    {"mistyped scale", "qwen2", .key = "logit_scale", .text = "one",
     .message = "key \"qwen2.logit_scale\": scaled logits of architecture qwen2 are not supported"},
    {"a window where none is known", "qwen2", .key = "attention.sliding_window", .value = 64,
     .message = "key \"qwen2.attention.sliding_window\": attention windows of architecture qwen2 are not"},
    {"a window", "llama", .key = "attention.sliding_window", .value = 64, .message = NULL},
    {"values narrower than keys", "llama", .key = "attention.value_length", .value = 8,
     .message = "llama.attention.value_length is 8; expected 16 to 16"},
    {"long RoPE without its factors", "llama", .key = "rope.scaling.type", .text = "longrope",
     .message = "tensor \"rope_factors_short.weight\" is missing; its RoPE scaling needs it"},
    {"embedding missing", "llama", .tensor = "token_embd.weight",
     .message = "tensor \"token_embd.weight\" is missing"},
    {"weight missing", "llama", .tensor = "blk.1.ffn_up.weight",
     .message = "tensor \"blk.1.ffn_up.weight\" is missing; architecture llama needs it"},
    {"bias missing", "qwen2", .tensor = "blk.0.attn_k.bias",
     .message = "tensor \"blk.0.attn_k.bias\" is missing; architecture qwen2 needs it"},
    {"wrong shape", "llama", .tensor = "blk.1.ffn_down.weight", .cols = 64, .rows = 96, .dtype = DTYPE_Q8_0,
     .message = "tensor \"blk.1.ffn_down.weight\": expected shape [64, 96], found [96, 64]"},
    {"quantised norm", "llama", .tensor = "blk.0.ffn_norm.weight", .cols = 64, .rows = 1, .dtype = DTYPE_Q8_0,
     .message = "tensor \"blk.0.ffn_norm.weight\": expected F32, F16 or BF16, found Q8_0"},
    {"unused tensor", "llama", .extra = "blk.0.attn_sinks.weight",
     .message = "tensor \"blk.0.attn_sinks.weight\": architecture llama has no use for it"},
};

TEST(plan_errors_name_the_thing_and_the_place) {
    for (size_t i = 0; i < COUNT_OF(ERROR_ROWS); i++) {
        TEST_CASE_LABEL("%s", ERROR_ROWS[i].name);
        Arena arena = os_arena(1 << 22);
        Error err = {0};
        Plan *plan = NULL;
        bool ok = plan_build(build_file(&ERROR_ROWS[i], &arena), &arena, &plan, &err);
        CHECK(ok == !ERROR_ROWS[i].message);
        if (ERROR_ROWS[i].message && !strstr(err.message, ERROR_ROWS[i].message))
            CHECK_STR_EQ(ERROR_ROWS[i].message, err.message);
        if (!ERROR_ROWS[i].message) CHECK_STR_EQ("", err.message);
    }
}

TEST(plan_runs_out_of_memory_cleanly) {
    Row row = {"good", "llama", .message = NULL};
    uint64_t n = 0;
    for (bool ok = false; !ok; n++) {
        REQUIRE(n < 100);
        TEST_CASE_LABEL("allocation %llu fails", (unsigned long long)n);
        Arena files = os_arena(1 << 22), arena = os_arena(1 << 22);
        const GgufFile *file = build_file(&row, &files);
        uint64_t countdown = n;
        arena.fail_countdown = &countdown;
        Error err = {0};
        Plan *plan = NULL;
        ok = plan_build(file, &arena, &plan, &err);
        if (!ok) CHECK_INT_EQ(ERR_NO_MEMORY, err.code);
    }
    CHECK(n > 3);
}

TEST(plan_is_the_flat_list_that_the_tables_say) {
    Row row = {"good", "qwen2", .message = NULL};
    Arena arena = os_arena(1 << 22);
    Error err = {0};
    Plan *plan = NULL;
    REQUIRE(plan_build(build_file(&row, &arena), &arena, &plan, &err));
    CHECK_INT_EQ(1 + 16 * LAYERS + 2, plan->n_ops);
    CHECK_INT_EQ(16, plan->config.head_dim);
    CHECK_INT_EQ(2 * LAYERS * 2 * KV, plan->kv_bytes_per_token);
    const Op *q = &plan->ops[2], *rope = &plan->ops[5], *attention = &plan->ops[8],
             *head = &plan->ops[plan->n_ops - 1];
    CHECK_STR_EQ("blk.0.attn_q.weight", q->weight->name);
    CHECK_STR_EQ("blk.0.attn_q.bias", q->bias->name);
    CHECK(rope->rope.rope->pairs == ROPE_HALVES && rope->rope.n_heads == 4);
    CHECK_NEAR(0.25, attention->attention.scale, 1e-7);
    CHECK_STR_EQ("token_embd.weight", head->weight->name); // tied
    Str text = plan_describe(plan, &arena);
    CHECK(str_starts_with(text, STR("  0  EMBED      X =  token_embd.weight [40, 64] Q8_0\n")));
}

// Dimensions are the operation's own: of the heads it works on, of what it reads and writes, and of its
// cache.
TEST(plan_operations_have_their_dimensions) {
    Row row = {"good", "qwen2", .message = NULL};
    Arena arena = os_arena(1 << 22);
    Error err = {0};
    Plan *plan = NULL;
    REQUIRE(plan_build(build_file(&row, &arena), &arena, &plan, &err));
    CHECK_INT_EQ(LAYERS, plan->n_layers);
    CHECK_INT_EQ(VOCAB, plan->n_vocab);
    CHECK_INT_EQ(128, plan->n_context);
    CHECK_INT_EQ(WIDTH, plan->d_model);
    REQUIRE(plan->n_caches == LAYERS);
    uint64_t page_bytes = 0;
    for (uint32_t i = 0; i < plan->n_caches; i++) {
        const Cache *cache = &plan->caches[i];
        CHECK(cache->kind == CACHE_KEYS_VALUES && cache->layer == i && cache->slot_bytes == 0);
        CHECK_INT_EQ(2, cache->n_heads);
        CHECK_INT_EQ(16, cache->key_dim);
        CHECK_INT_EQ(16, cache->value_dim);
        CHECK_INT_EQ(16 * 2 * (16 + 16) * 2, cache->page_bytes);
        page_bytes += cache->page_bytes;
    }
    CHECK_INT_EQ(page_bytes, KV_PAGE_TOKENS * plan->kv_bytes_per_token);
    uint32_t seen = 0;
    for (uint32_t i = 0; i < plan->n_ops; i++) {
        const Op *op = &plan->ops[i];
        TEST_CASE_LABEL("operation %u, %s", i, plan_op_name(op->kind));
        seen |= 1u << op->kind;
        switch (op->kind) {
        case OP_ATTENTION:
            CHECK_INT_EQ(op->layer, op->attention.cache);
            CHECK_INT_EQ(4, op->attention.n_heads);
            CHECK_INT_EQ(2, op->attention.n_kv_heads);
            CHECK_INT_EQ(16, op->attention.key_dim);
            CHECK_INT_EQ(16, op->attention.value_dim);
            CHECK(op->in_width[0] == 64 && op->out_width == 64);
            break;
        case OP_KV_WRITE:
            CHECK_INT_EQ(op->layer, op->kv_write.cache);
            CHECK_INT_EQ(2, op->kv_write.n_kv_heads);
            CHECK(op->in_width[0] == KV && op->in_width[1] == KV && op->out_width == 0);
            break;
        case OP_GLU: CHECK(op->in_width[0] == FF && op->in_width[1] == FF && op->out_width == FF); break;
        case OP_HEAD: CHECK(op->in_width[0] == WIDTH && op->out_width == VOCAB); break;
        case OP_MATMUL:
            CHECK_INT_EQ(op->weight->n_cols, op->in_width[0]);
            CHECK_INT_EQ(op->weight->n_rows, op->out_width);
            break;
        default: break;
        }
    }
    CHECK((seen >> OP_ATTENTION & seen >> OP_KV_WRITE & seen >> OP_GLU & seen >> OP_HEAD & 1u) == 1);
}

// inv_freq against the published formulas, written out once more in double for a few pairs.
TEST(plan_rope_scalings) {
    static const struct {
        const char *name;
        ModelConfig config;
        uint32_t pair;
        double expected;
        double scale;
    } rows[] = {
        {"plain, first",
         {.rope_dims = 64, .rope_base = 10000, .rope_factor = 1, .rope_attn_factor = 1},
         0,
         1,
         1},
        {"plain, last",
         {.rope_dims = 64, .rope_base = 10000, .rope_factor = 1, .rope_attn_factor = 1},
         31,
         1.333521432163324e-4,
         1},
        {"linear",
         {.rope_dims = 64,
          .rope_base = 10000,
          .rope_factor = 4,
          .rope_attn_factor = 1,
          .rope_scaling = ROPE_SCALING_LINEAR},
         0,
         0.25,
         1},
        // GPT-OSS: base 150000, factor 32, 4096 positions; transformers' yarn parameters with truncated
        // bounds.
        {"yarn, kept",
         {.rope_dims = 64,
          .rope_base = 150000,
          .rope_factor = 32,
          .rope_attn_factor = 1,
          .rope_scaling = ROPE_SCALING_YARN,
          .rope_original_context = 4096,
          .yarn_beta_fast = 32,
          .yarn_beta_slow = 1},
         0,
         1,
         1.3465735902799727},
        {"yarn, divided",
         {.rope_dims = 64,
          .rope_base = 150000,
          .rope_factor = 32,
          .rope_attn_factor = 1,
          .rope_scaling = ROPE_SCALING_YARN,
          .rope_original_context = 4096,
          .yarn_beta_fast = 32,
          .yarn_beta_slow = 1},
         31,
         3.0235114281192144e-07,
         1.3465735902799727},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        Arena arena = os_arena(1 << 16);
        Rope rope;
        REQUIRE(rope_init(&rows[i].config, ROPE_HALVES, NULL, &arena, &rope));
        double actual = (double)rope.inv_freq[rows[i].pair];
        CHECK_NEAR(1, actual / rows[i].expected, 1e-5);
        CHECK_NEAR(rows[i].scale, rope.scale, 1e-6);
    }
}

// ---- configurations ----

typedef struct {
    const char *name;
    uint32_t n_layers;
    uint32_t period;     // as a number; 0: no key
    const char *pattern; // as an array of bools: 'w' for a window, '-' for none
    uint32_t expected_period;
    float expected_score_dim;
    const char *message;
} GemmaRow;

static const GgufFile *build_gemma(const GemmaRow *row, Arena *arena) {
    GgufBuilder b = gguf_builder_begin();
    gguf_builder_put_str(&b, "general.architecture", "gemma3");
    gguf_builder_put_u32(&b, "gemma3.block_count", row->n_layers);
    gguf_builder_put_u32(&b, "gemma3.context_length", 128);
    gguf_builder_put_u32(&b, "gemma3.embedding_length", WIDTH);
    gguf_builder_put_u32(&b, "gemma3.feed_forward_length", FF);
    gguf_builder_put_u32(&b, "gemma3.attention.head_count", 4);
    gguf_builder_put_u32(&b, "gemma3.attention.sliding_window", 16);
    gguf_builder_put_f32(&b, "gemma3.attention.layer_norm_rms_epsilon", 1e-6f);
    const char *key = "gemma3.attention.sliding_window_pattern";
    if (row->period) gguf_builder_put_u32(&b, key, row->period);
    if (row->pattern) {
        gguf_builder_put_key(&b, str_from_c(key), GGUF_ARRAY);
        gguf_bytes_put_u32(&b.keys, GGUF_BOOL);
        gguf_bytes_put_u64(&b.keys, strlen(row->pattern));
        for (const char *at = row->pattern; *at; at++)
            gguf_bytes_put_u8(&b.keys, *at == 'w');
    }
    gguf_builder_add_tensor(&b, "token_embd.weight", DTYPE_F32, 2, (uint64_t[]){WIDTH, VOCAB}, NULL);
    return parse_file(&b, arena);
}

TEST(plan_configuration_of_gemma3) {
    static const GemmaRow rows[] = {
        {"no pattern key", 18, .expected_period = 6},
        {"a number", 18, .period = 3, .expected_period = 3},
        {"an array", 13, .pattern = "wwwww-wwwww-w", .expected_period = 6},
        {"no windows", 4, .pattern = "----", .expected_period = 1},
        {"windows only", 4, .pattern = "wwww", .expected_period = 5},
        {"an empty array", 4, .pattern = "", .expected_period = 1},
        {"the last layer first", 6, .pattern = "-wwwww",
         .message =
             "key \"gemma3.attention.sliding_window_pattern\": layers with a window in this order are not"},
        {"27B", 62, .expected_period = 6, .expected_score_dim = 168},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const GemmaRow *row = &rows[i];
        TEST_CASE_LABEL("%s", row->name);
        Arena arena = os_arena(1 << 20);
        Error err = {0};
        ModelConfig c;
        bool ok = config_read(build_gemma(row, &arena), arch_find(STR("gemma3")), &c, &err);
        CHECK(ok == !row->message);
        if (row->message && !strstr(err.message, row->message)) CHECK_STR_EQ(row->message, err.message);
        if (!ok) continue;
        CHECK_INT_EQ(row->expected_period, c.window_period);
        CHECK_NEAR(row->expected_score_dim, c.score_dim, 0);
        CHECK_INT_EQ(16, c.window);
        CHECK_NEAR(8, c.embed_scale, 0);
        CHECK_NEAR(10000, c.rope_base_window, 0);
    }
}

// Keys that the first files of Gemma 2 lack, and caps of other kinds.
TEST(plan_configuration_of_gemma2) {
    static const struct {
        const char *name;
        uint32_t n_layers;
        float score_cap, logit_cap; // -1: no key
        float expected_score_cap, expected_logit_cap, expected_score_dim;
        const char *message;
    } rows[] = {
        {"no keys", 26, -1, -1, 50, 30, 0, NULL},
        {"keys", 42, 40, 20, 40, 20, 0, NULL},
        {"no caps", 42, 0, 0, 0, 0, 0, NULL},
        {"27B", 46, -1, -1, 50, 30, 144, NULL},
        {"negative", 26, -2, -1, .message = "gemma2: attn_logit_softcapping is -2 and final_logit"},
        {"tiny", 26, -1, 1e-30f, .message = "gemma2: attn_logit_softcapping is 50 and final_logit"},
        {"huge", 26, 1e30f, -1, .message = "gemma2: attn_logit_softcapping is 1e+30 and final_logit"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        Arena arena = os_arena(1 << 20);
        GgufBuilder b = gguf_builder_begin();
        gguf_builder_put_str(&b, "general.architecture", "gemma2");
        gguf_builder_put_u32(&b, "gemma2.block_count", rows[i].n_layers);
        gguf_builder_put_u32(&b, "gemma2.context_length", 128);
        gguf_builder_put_u32(&b, "gemma2.embedding_length", WIDTH);
        gguf_builder_put_u32(&b, "gemma2.feed_forward_length", FF);
        gguf_builder_put_u32(&b, "gemma2.attention.head_count", 4);
        gguf_builder_put_f32(&b, "gemma2.attention.layer_norm_rms_epsilon", 1e-6f);
        if (rows[i].score_cap != -1)
            gguf_builder_put_f32(&b, "gemma2.attn_logit_softcapping", rows[i].score_cap);
        if (rows[i].logit_cap != -1)
            gguf_builder_put_f32(&b, "gemma2.final_logit_softcapping", rows[i].logit_cap);
        gguf_builder_add_tensor(&b, "token_embd.weight", DTYPE_F32, 2, (uint64_t[]){WIDTH, VOCAB}, NULL);
        Error err = {0};
        ModelConfig c;
        bool ok = config_read(parse_file(&b, &arena), arch_find(STR("gemma2")), &c, &err);
        CHECK(ok == !rows[i].message);
        if (rows[i].message && !strstr(err.message, rows[i].message))
            CHECK_STR_EQ(rows[i].message, err.message);
        if (!ok) continue;
        CHECK_INT_EQ(4096, c.window);
        CHECK_INT_EQ(2, c.window_period);
        CHECK_NEAR(rows[i].expected_score_cap, c.score_cap, 0);
        CHECK_NEAR(rows[i].expected_logit_cap, c.logit_cap, 0);
        CHECK_NEAR(rows[i].expected_score_dim, c.score_dim, 0);
        CHECK_NEAR(8, c.embed_scale, 0);
    }
}

// Each part of a fused tensor is a weight of its own, and lies where the one before it ends.
TEST(plan_takes_fused_tensors_apart) {
    for (uint32_t i = 0; arch_model_at(i); i++) {
        const ArchModel *m = arch_model_at(i);
        if (strcmp(arch_model_architecture(m), "gpt2") != 0) continue;
        Arena arena = os_arena(1 << 22);
        Str bytes = arch_model_build(m);
        GgufPart part = {.data = (const uint8_t *)bytes.ptr, .size = bytes.len, .name = "test.gguf"};
        const GgufFile *file;
        Error err = {0};
        Plan *plan = NULL;
        REQUIRE(gguf_parse(&part, 1, &arena, &file, &err) && plan_build(file, &arena, &plan, &err));
        const GgufTensor *weight = gguf_find_tensor(file, STR("blk.0.attn_qkv.weight"));
        const GgufTensor *bias = gguf_find_tensor(file, STR("blk.0.attn_qkv.bias"));
        uint64_t weight_at = 0, bias_at = 0;
        for (uint32_t o = 3; o < 6; o++) { // behind EMBED, ADD_POSITION, LAYER_NORM
            const Op *op = &plan->ops[o];
            REQUIRE(op->kind == OP_MATMUL && op->bias);
            CHECK(op->weight->data == weight->data + weight_at);
            CHECK(op->bias->data == bias->data + bias_at);
            weight_at += op->weight->size_bytes;
            bias_at += op->bias->size_bytes;
        }
        CHECK_U64_EQ(weight->size_bytes, weight_at);
        CHECK_U64_EQ(bias->size_bytes, bias_at);
    }
}
