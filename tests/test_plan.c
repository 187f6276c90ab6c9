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
    // One metadata key more.
    const char *more_key;
    GgufType more_type;
    double more_value;
    float yarn_factor; // 0: no scaling
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

static void put_more(GgufBuilder *b, const Row *row) {
    char key[96];
    if (row->yarn_factor > 0) {
        gguf_builder_put_str(b, "llama.rope.scaling.type", "yarn");
        gguf_builder_put_f32(b, "llama.rope.scaling.factor", row->yarn_factor);
    }
    if (!row->more_key) return;
    snprintf(key, sizeof key, "%s.%s", row->architecture, row->more_key);
    switch (row->more_type) {
    case GGUF_F32: gguf_builder_put_f32(b, key, (float)row->more_value); break;
    case GGUF_BOOL: gguf_builder_put_bool(b, key, row->more_value != 0); break;
    case GGUF_STRING: gguf_builder_put_str(b, key, "a\nb"); break;
    case GGUF_ARRAY: gguf_builder_put_i32s(b, key, (int32_t[]){1, 2, 3}, 3); break;
    default: gguf_builder_put_u32(b, key, (uint32_t)row->more_value); break;
    }
}

static void begin_file(GgufBuilder *b, const Row *row) {
    gguf_builder_put_str(b, "general.architecture", row->architecture);
    put_key(b, row, "block_count", LAYERS, false);
    put_key(b, row, "context_length", 128, false);
    put_key(b, row, "embedding_length", WIDTH, false);
    put_key(b, row, "feed_forward_length", FF, false);
    put_key(b, row, "attention.head_count", 4, false);
    put_key(b, row, "attention.head_count_kv", 2, false);
    put_key(b, row, "attention.layer_norm_rms_epsilon", 1e-5, true);
    put_key(b, row, "rope.freq_base", 10000, true);
    static const char *const rare[] = {
        "attention.key_length",     "rope.dimension_count",    "expert_count",
        "rope.scaling.type",        "rope.scaling.factor",     "attention.value_length",
        "attention.sliding_window", "final_logit_softcapping", "logit_scale"};
    for (size_t i = 0; i < COUNT_OF(rare); i++) {
        if (row->key && strcmp(row->key, rare[i]) == 0) put_key(b, row, rare[i], 0, false);
    }
    put_more(b, row);
}

static const GgufFile *end_file(GgufBuilder *b, const Row *row, Arena *arena) {
    add_tensor(b, row, "token_embd.weight", DTYPE_Q8_0, WIDTH, VOCAB);
    add_tensor(b, row, "output_norm.weight", DTYPE_F32, WIDTH, 1);
    for (uint32_t layer = 0; layer < LAYERS; layer++)
        add_layer(b, row, layer);
    if (row->extra) gguf_builder_add_tensor(b, row->extra, DTYPE_F32, 1, (uint64_t[]){8}, NULL);
    return parse_file(b, arena);
}

static const GgufFile *build_file(const Row *row, Arena *arena) {
    GgufBuilder b = gguf_builder_begin();
    begin_file(&b, row);
    return end_file(&b, row, arena);
}

static const Row ERROR_ROWS[] = {
    {"good llama", "llama", .message = NULL},
    {"good qwen2", "qwen2", .message = NULL},
    {"head count defaults", "llama", .key = "attention.head_count_kv", .value = 4, .tensor = "none",
     .message = "tensor \"blk.0.attn_k.weight\": expected shape [64, 64], found [32, 64]"},
    {"unknown architecture", "mamba",
     .message =
         "general.architecture: \"mamba\" is not supported; --list-architectures names those that are"},
    {"no layers key", "llama", .key = "block_count", .message = "\"llama.block_count\""},
    {"too many layers", "llama", .key = "block_count", .value = 100000,
     .message = "key \"llama.block_count\": 100000; expected 1 to 512"},
    {"a layer more than there is", "llama", .key = "block_count", .value = 3,
     .message = "tensor \"blk.2.attn_norm.weight\" is missing; architecture llama needs it"},
    {"a layer less than there is", "llama", .key = "block_count", .value = 1,
     .message = "tensor \"blk.1.attn_norm.weight\": architecture llama has no use for it"},
    {"heads do not divide", "llama", .key = "attention.head_count_kv", .value = 3,
     .message = "llama.attention.head_count_kv is 3; expected a divisor of layer 0's head_count 4"},
    {"more KV heads than heads", "llama", .key = "attention.head_count_kv", .value = 8,
     .message = "llama.attention.head_count_kv is 8; expected 1 to 4"},
    {"heads of a width that no key says", "llama", .key = "embedding_length", .value = 8192,
     .message = "llama.attention.key_length (not in the file) is 2048; expected 1 to 1024"},
    {"mistyped key", "llama", .key = "embedding_length", .text = "wide",
     .message = "\"llama.embedding_length\""},
    {"rope dimensions above the head's", "llama", .key = "rope.dimension_count", .value = 18,
     .message = "llama.rope.dimension_count is 18; expected 0 to 16"},
    {"odd rope dimensions", "llama", .key = "rope.dimension_count", .value = 7,
     .message = "llama.rope.dimension_count is 7, not even"},
    {"rope base of zero", "llama", .key = "rope.freq_base", .value = -0.0,
     .message = "llama.rope.freq_base is -0; expected 1 to 1e+30"},
    {"frequencies that are infinite", "llama", .key = "rope.freq_base", .value = 1e-45,
     .message = "llama.rope.freq_base is 1.4013e-45; expected 1 to 1e+30"},
    {"rope base that is infinite", "llama", .key = "rope.freq_base", .value = INFINITY,
     .message = "key \"llama.rope.freq_base\": inf is no finite f32"},
    {"rope base that is no number", "llama", .key = "rope.freq_base", .value = NAN,
     .message = "key \"llama.rope.freq_base\": nan is no finite f32"},
    {"YaRN's factor below all", "llama", .yarn_factor = 1e-45f,
     .message = "llama.rope.scaling.factor is 1.4013e-45; expected 1e-06 to 1e+06"},
    {"YaRN's factor above all", "llama", .yarn_factor = 1e7f,
     .message = "llama.rope.scaling.factor is 1e+07; expected 1e-06 to 1e+06"},
    {"YaRN's factor that turns signs", "llama", .yarn_factor = 1e-5f,
     .message = "llama.rope.scaling.factor is 1e-05, which multiplies queries and keys by -0.15"},
    {"YaRN's factor", "llama", .yarn_factor = 1e5f, .message = NULL},
    {"YaRN's turns", "llama", .yarn_factor = 8, .more_key = "rope.scaling.yarn_beta_fast",
     .more_type = GGUF_F32, .more_value = 0,
     .message = "llama.rope.scaling.yarn_beta_fast is 0; expected 1e-06 to 1e+06"},
    {"a factor without a type", "llama", .more_key = "rope.scaling.factor", .more_type = GGUF_F32,
     .more_value = 1e-45, .message = "llama.rope.scaling.factor is 1.4013e-45; expected 1e-06 to 1e+06"},
    {"a factor on cosines", "llama", .more_key = "rope.scaling.attn_factor", .more_type = GGUF_F32,
     .more_value = 1e-45,
     .message = "llama.rope.scaling.attn_factor is 1.4013e-45; expected a multiplier of 1e-6 to 1e6"},
    {"epsilon of two", "llama", .key = "attention.layer_norm_rms_epsilon", .value = 2,
     .message = "llama.attention.layer_norm_rms_epsilon is 2; expected 0 to 1"},
    {"unknown rope scaling", "llama", .key = "rope.scaling.type", .text = "su",
     .message =
         "key \"llama.rope.scaling.type\": RoPE scaling \"su\" is not supported; supported: none, linear, "
         "yarn, longrope"},
    {"a long name of a rope scaling", "llama", .key = "rope.scaling.type",
     .text = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz",
     .message = "RoPE scaling \"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuv...\" is not supported; "
                "supported: none, linear, yarn, longrope"},
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
     .message = "tensor \"blk.0.attn_v.weight\": expected shape [16, 64], found [32, 64]"},
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

// clang-format off
#define KEY_ROW(arch, key, type, value, text) \
    { key, arch, .more_key = key, .more_type = type, .more_value = value, .message = text }
// clang-format on

// A key that may change what a model computes is read or refused, never passed over.
static const Row KEY_ROWS[] = {
    KEY_ROW("llama", "attention.causal", GGUF_BOOL, 1, NULL),
    KEY_ROW("llama", "attention.causal", GGUF_BOOL, 0,
            "key \"llama.attention.causal\": attention to later positions of architecture llama are not "
            "supported "
            "(its value is no)"),
    KEY_ROW("qwen2", "attention.temperature_scale", GGUF_F32, 0, NULL),
    KEY_ROW(
        "qwen2", "attention.temperature_scale", GGUF_F32, 0.1,
        "key \"qwen2.attention.temperature_scale\": temperatures of attention of architecture qwen2 are not "
        "supported (its value is 0.1)"),
    KEY_ROW("llama", "attention.temperature_length", GGUF_U32, 8192, "temperatures of attention"),
    KEY_ROW("llama", "attention.new_idea", GGUF_U32, 3,
            "key \"llama.attention.new_idea\": its value 3 may change what the model computes, and is not "
            "supported; "
            "--ignore-unknown-keys"),
    KEY_ROW("llama", "attention.new_idea", GGUF_STRING, 0, "its value \"a?b\" may change"),
    KEY_ROW("llama", "rope.dimension_sections", GGUF_ARRAY, 0, "its value [3 i32] may change"),
    KEY_ROW("llama", "rope.freq_base_swa", GGUF_F32, 500, NULL), // read, for layers with a window
    KEY_ROW("qwen2", "rope.freq_base_swa", GGUF_F32, 500, "key \"qwen2.rope.freq_base_swa\": its value 500"),
    KEY_ROW("llama", "expert_new_idea", GGUF_U32, 3, "key \"llama.expert_new_idea\""),
    KEY_ROW("llama", "expert_gating_func", GGUF_U32, 2, "other ways to choose experts than softmax"),
    KEY_ROW("llama", "expert_gating_func", GGUF_U32, 1, NULL),
    KEY_ROW("llama", "expert_weights_norm", GGUF_BOOL, 0, "experts whose shares do not sum to 1"),
    KEY_ROW("llama", "expert_group_count", GGUF_U32, 8, "experts in groups"),
    KEY_ROW("llama", "expert_group_count", GGUF_U32, 1, NULL),
    KEY_ROW("llama", "expert_used_count", GGUF_U32, 0, NULL),                // dense models may say so
    KEY_ROW("llama", "attention.sliding_window_pattern", GGUF_U32, 2, NULL), // read
    KEY_ROW("qwen2", "attention.sliding_window_pattern", GGUF_U32, 2,
            "attention.sliding_window_pattern\": its value"),
    KEY_ROW("llama", "attention.layer_norm_epsilon", GGUF_F32, 1e-5, NULL),
    KEY_ROW("llama", "rope.scaling.finetuned", GGUF_BOOL, 1, NULL),
    KEY_ROW("llama", "vocab_size", GGUF_U32, 40, NULL), // changes nothing
    KEY_ROW("llama", "rope.scaling.yarn_log_multiplier", GGUF_F32, 0.1, "multipliers of YaRN's factor"),
    {"YaRN's own factor", "llama", .yarn_factor = 4, .more_key = "rope.scaling.yarn_attn_factor",
     .more_type = GGUF_F32, .more_value = 1.138629436},
    {"another factor", "llama", .yarn_factor = 4, .more_key = "rope.scaling.yarn_attn_factor",
     .more_type = GGUF_F32, .more_value = 2,
     .message =
         "key \"llama.rope.scaling.yarn_attn_factor\": its value 2 may change what the model computes"},
    {"a factor without YaRN", "llama", .more_key = "rope.scaling.yarn_attn_factor", .more_type = GGUF_F32,
     .more_value = 1},
    {"all of YaRN", "llama", .yarn_factor = 4, .more_key = "rope.scaling.yarn_ext_factor",
     .more_type = GGUF_F32, .more_value = 1},
    {"half of YaRN", "llama", .yarn_factor = 4, .more_key = "rope.scaling.yarn_ext_factor",
     .more_type = GGUF_F32, .more_value = 0.5,
     .message = "key \"llama.rope.scaling.yarn_ext_factor\": its value 0.5"},
};

TEST(plan_reads_or_refuses_keys) {
    for (size_t i = 0; i < COUNT_OF(KEY_ROWS); i++) {
        const Row *row = &KEY_ROWS[i];
        TEST_CASE_LABEL("%s %s = %g", row->architecture, row->more_key, row->more_value);
        Arena arena = os_arena(1 << 22);
        Error err = {0};
        Plan *plan = NULL;
        const GgufFile *file = build_file(row, &arena);
        bool ok = plan_build(file, &arena, &plan, &err);
        CHECK(ok == !row->message);
        if (!row->message) CHECK_STR_EQ("", err.message);
        else if (!strstr(err.message, row->message)) CHECK_STR_EQ(row->message, err.message);
        if (row->message) CHECK_INT_EQ(ERR_UNSUPPORTED, err.code);
        // The flag lets any of them through, and says which.
        err = (Error){0};
        REQUIRE(plan_build_with(file, &(PlanOptions){.ignore_unknown_keys = true}, &arena, &plan, &err));
        char name[96];
        snprintf(name, sizeof name, "%s.%s = ", row->architecture, row->more_key);
        CHECK(str_starts_with(plan->ignored_keys, str_from_c(name)) == (row->message != NULL));
        CHECK((plan->ignored_keys.len == 0) == !row->message);
    }
}

// Tensors of other models in the same file are left out and said; any other one without a use is refused.
TEST(plan_leaves_out_named_tensors_only) {
    static const struct {
        const char *extra;
        const char *skipped; // NULL: refused
    } rows[] = {
        {"v.blk.0.attn_q.weight", "vision: 1 tensor"},
        {"mm.0.weight", "vision: 1 tensor"},
        {"a.conv1d.1.weight", "audio: 1 tensor"},
        {"mtp.fc.weight", "multi-token prediction (MTP): 1 tensor"},
        {"blk.2.nextn.eh_proj.weight", NULL},
        {"vision.weight", NULL},
        {"blk.0.attn_sinks.weight", NULL},
        {"blk..weight", NULL},
        {"blk.99999999999999.attn_q.weight", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].extra);
        Arena arena = os_arena(1 << 22);
        Error err = {0};
        Plan *plan = NULL;
        Row row = {"extra", "llama", .extra = rows[i].extra};
        bool ok = plan_build(build_file(&row, &arena), &arena, &plan, &err);
        CHECK(ok == (rows[i].skipped != NULL));
        if (!ok) CHECK(strstr(err.message, "has no use for it"));
        if (!ok) continue;
        CHECK_STR_EQ(rows[i].skipped, plan->skipped_tensors);
        CHECK_INT_EQ(1, plan->n_skipped_tensors);
        uint64_t bytes = 0;
        for (uint32_t w = 0; w < plan->n_weights; w++)
            bytes += plan->weights[w].size_bytes;
        CHECK_U64_EQ(bytes, plan->weight_bytes);
    }
}

// The last blocks of a file may guess tokens ahead: they are no part of a forward pass.
TEST(plan_leaves_out_blocks_that_guess_ahead) {
    Row row = {"ahead",
               "llama",
               .more_key = "nextn_predict_layers",
               .more_type = GGUF_U32,
               .more_value = 1,
               .extra = "blk.1.nextn.eh_proj.weight"};
    Arena arena = os_arena(1 << 22);
    Error err = {0};
    Plan *plan = NULL;
    REQUIRE(plan_build(build_file(&row, &arena), &arena, &plan, &err));
    CHECK_INT_EQ(LAYERS - 1, plan->n_layers);
    CHECK_INT_EQ(LAYERS - 1, plan->n_caches);
    CHECK_STR_EQ("multi-token prediction (MTP): 10 tensors", plan->skipped_tensors);
    row.more_value = LAYERS;
    CHECK(!plan_build(build_file(&row, &arena), &arena, &plan, &err));
    CHECK(strstr(err.message, "llama.nextn_predict_layers is 2; expected 0 to 1"));
}

// Arrays with a number for each layer: what is wrong with one names its layer.
TEST(plan_reads_numbers_of_layers) {
    static const struct {
        const char *name;
        GgufType type;
        int32_t values[3];
        uint32_t count;
        const char *message;
    } rows[] = {
        {"equal", GGUF_I32, {4, 4}, 2, NULL},
        {"too few", GGUF_I32, {4}, 1, "attention.head_count\": 1 values; expected one for each of 2 blocks"},
        {"too many", GGUF_I32, {4, 4, 4}, 3, "3 values; expected one for each of 2 blocks"},
        {"negative", GGUF_I32, {4, -1}, 2, "-1 for layer 1; expected 0 to 2^32 - 1"},
        {"none in a layer",
         GGUF_I32,
         {4, 0},
         2,
         "llama.attention.head_count of layer 1 is 0; expected 1 to 4096"},
        {"not a multiple",
         GGUF_I32,
         {4, 3},
         2,
         "head_count_kv is 2; expected a divisor of layer 1's head_count 3"},
        {"another number than its tensors",
         GGUF_I32,
         {4, 2},
         2,
         "tensor \"blk.1.attn_q.weight\": expected shape [32, 64], found [64, 64]"},
        {"of floats", GGUF_F32, {4, 4}, 2, "expected u32 or an array of them, found an array of f32"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        Arena arena = os_arena(1 << 22);
        Error err = {0};
        Plan *plan = NULL;
        GgufBuilder b = gguf_builder_begin();
        Row row = {"layers", "llama", .key = "attention.head_count"};
        begin_file(&b, &row);
        gguf_builder_put_key(&b, STR("llama.attention.head_count"), GGUF_ARRAY);
        gguf_bytes_put_u32(&b.keys, rows[i].type);
        gguf_bytes_put_u64(&b.keys, rows[i].count);
        gguf_bytes_put(&b.keys, rows[i].values, rows[i].count * sizeof(int32_t));
        bool ok = plan_build(end_file(&b, &row, &arena), &arena, &plan, &err);
        CHECK(ok == !rows[i].message);
        if (rows[i].message && !strstr(err.message, rows[i].message))
            CHECK_STR_EQ(rows[i].message, err.message);
        if (!rows[i].message) CHECK_STR_EQ("", err.message);
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
        RopeConfig config;
        uint32_t pair;
        double expected;
        double scale;
    } rows[] = {
        {"plain, first", {.dims = 64, .base = 10000, .factor = 1, .attn_factor = 1}, 0, 1, 1},
        {"plain, last",
         {.dims = 64, .base = 10000, .factor = 1, .attn_factor = 1},
         31,
         1.333521432163324e-4,
         1},
        {"linear",
         {.dims = 64, .base = 10000, .factor = 4, .attn_factor = 1, .scaling = ROPE_SCALING_LINEAR},
         0,
         0.25,
         1},
        // GPT-OSS: base 150000, factor 32, 4096 positions; transformers' yarn parameters with truncated
        // bounds.
        {"yarn, kept",
         {.dims = 64,
          .base = 150000,
          .factor = 32,
          .attn_factor = 1,
          .scaling = ROPE_SCALING_YARN,
          .original_context = 4096,
          .yarn_beta_fast = 32,
          .yarn_beta_slow = 1},
         0,
         1,
         1.3465735902799727},
        {"yarn, divided",
         {.dims = 64,
          .base = 150000,
          .factor = 32,
          .attn_factor = 1,
          .scaling = ROPE_SCALING_YARN,
          .original_context = 4096,
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
    const char *windows; // expected, a letter a layer
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
    gguf_builder_put_f32(&b, "gemma3.rope.freq_base", 1e6f);
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
        {"no pattern key", 8, .windows = "wwwww-ww"},
        {"a number", 7, .period = 3, .windows = "ww-ww-w"},
        {"an array", 13, .pattern = "wwwww-wwwww-w", .windows = "wwwww-wwwww-w"},
        {"no windows", 4, .pattern = "----", .windows = "----"},
        {"windows only", 4, .pattern = "wwww", .windows = "wwww"},
        {"in no period", 6, .pattern = "-wwww-", .windows = "-wwww-"},
        {"an empty array", 4, .pattern = "",
         .message =
             "key \"gemma3.attention.sliding_window_pattern\": 0 values; expected one for each of 4 blocks"},
        {"an array of another length", 4, .pattern = "wwwww",
         .message = "5 values; expected one for each of 4 blocks"},
        {"27B", 62, .windows = "wwwww-wwwww-wwwww-wwwww-wwwww-wwwww-wwwww-wwwww-wwwww-wwwww-ww",
         .expected_score_dim = 168},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const GemmaRow *row = &rows[i];
        Arena arena = os_arena(1 << 20);
        const GgufFile *file = build_gemma(row, &arena);
        for (uint32_t layer = 0; layer < row->n_layers; layer++) {
            TEST_CASE_LABEL("%s, layer %u", row->name, layer);
            Error err = {0};
            ModelConfig c;
            bool ok = config_read(file, arch_find(STR("gemma3")), layer, &c, &err);
            CHECK(ok == !row->message);
            if (row->message && !strstr(err.message, row->message)) CHECK_STR_EQ(row->message, err.message);
            if (!ok) continue;
            bool has_window = row->windows[layer] == 'w';
            CHECK_INT_EQ(has_window, c.has_window);
            CHECK_NEAR(row->expected_score_dim, c.score_dim, 0);
            CHECK_INT_EQ(16, c.window);
            CHECK_NEAR(8, c.embed_scale, 0);
            CHECK_NEAR(has_window ? 10000 : 1e6, c.rope.base, 0);
        }
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
        {"negative", 26, -2, -1, .message = "gemma2.attn_logit_softcapping is -2; expected 0.01"},
        {"tiny", 26, -1, 1e-30f, .message = "gemma2.final_logit_softcapping is 1e-30; expected"},
        {"huge", 26, 1e30f, -1, .message = "gemma2.attn_logit_softcapping is 1e+30; expected"},
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
        bool ok = config_read(parse_file(&b, &arena), arch_find(STR("gemma2")), 1, &c, &err);
        CHECK(ok == !rows[i].message);
        if (rows[i].message && !strstr(err.message, rows[i].message))
            CHECK_STR_EQ(rows[i].message, err.message);
        if (!ok) continue;
        CHECK_INT_EQ(4096, c.window);
        CHECK_INT_EQ(0, c.has_window); // the second of every two sees all positions
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
