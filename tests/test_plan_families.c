// What the configurations of many architectures are refused for: multipliers, routers, layers.
#include "gguf_builder.h"
#include "os/os.h"
#include "plan/config.h"
#include "runner.h"

#include <stdio.h>

enum { WIDTH = 64, VOCAB = 40 };

typedef struct {
    const char *name, *architecture;
    uint32_t n_layers;
    const char *key; // one more, a number
    double value;
    bool is_float;
    const char *message; // NULL: read
} Row;

static void put_keys(GgufBuilder *b, const Row *row) {
    const struct {
        const char *suffix;
        uint32_t value;
    } keys[] = {{"block_count", row->n_layers}, {"context_length", 128},
                {"embedding_length", WIDTH},    {"feed_forward_length", 96},
                {"attention.head_count", 4},    {"expert_count", 8},
                {"expert_used_count", 3},       {"expert_feed_forward_length", 32}};
    char key[96];
    gguf_builder_put_str(b, "general.architecture", row->architecture);
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        if (row->key && strcmp(row->key, keys[i].suffix) == 0) continue;
        snprintf(key, sizeof key, "%s.%s", row->architecture, keys[i].suffix);
        gguf_builder_put_u32(b, key, keys[i].value);
    }
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", row->architecture);
    gguf_builder_put_f32(b, key, 1e-5f);
    if (!row->key) return;
    snprintf(key, sizeof key, "%s.%s", row->architecture, row->key);
    if (row->is_float) gguf_builder_put_f32(b, key, (float)row->value);
    else gguf_builder_put_u32(b, key, (uint32_t)row->value);
}

TEST(plan_families_are_checked) {
    static const Row rows[] = {
        {"all in order", "glm4moe", 3, "expert_group_count", 4, false, NULL},
        {"one group too few", "glm4moe", 3, "expert_group_count", 8, false,
         "glm4moe.expert_group_count is 8 and expert_group_used_count 8, which does not fit 8 experts of "
         "which 3 are"},
        {"groups that do not divide", "glm4moe", 3, "expert_group_count", 3, false,
         "glm4moe.expert_group_count is 3"},
        {"too many groups", "glm4moe", 3, "expert_group_count", 64, false,
         "glm4moe.expert_group_count is 64; expected 1 to 32"},
        {"more groups used than there are", "glm4moe", 3, "expert_group_used_count", 2, false,
         "glm4moe.expert_group_used_count"},
        {"another router", "glm4moe", 3, "expert_gating_func", 4, false,
         "glm4moe.expert_gating_func is 4; expected 1 to 3"},
        {"more dense layers than layers", "glm4moe", 3, "leading_dense_block_count", 4, false,
         "glm4moe.leading_dense_block_count is 4; expected 0 to 3"},
        {"more experts used than there are", "glm4moe", 3, "expert_used_count", 9, false,
         "glm4moe.expert_used_count is 9; expected 1 to 8"},
        {"weights times less than nothing", "glm4moe", 3, "expert_weights_scale", -1, true,
         "glm4moe.expert_weights_scale is -1; expected a multiplier"},
        {"a shared expert that no key measures", "qwen2moe", 2, NULL, 0, false,
         "qwen2moe.expert_shared_feed_forward_length"},
        {"residuals times less than nothing", "granite", 2, "residual_scale", -0.2, true,
         "granite.residual_scale is -0.2; expected a multiplier"},
        {"logits divided by next to nothing", "granite", 2, "logit_scale", 1e-9, true,
         "granite.logit_scale is 1e-09; expected a multiplier"},
        {"an infinite multiplier", "granite", 2, "embedding_scale", 1e30, true,
         "granite.embedding_scale is 1e+30"},
        {"multipliers that are not there", "minicpm", 2, NULL, 0, false, "minicpm.embedding_scale"},
        {"position biases", "baichuan", 40, NULL, 0, false, "baichuan of 40 layers has position biases"},
        {"none", "baichuan", 32, NULL, 0, false, NULL},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        Arena arena = os_arena(1 << 20);
        GgufBuilder b = gguf_builder_begin();
        put_keys(&b, &rows[i]);
        gguf_builder_add_tensor(&b, "token_embd.weight", DTYPE_F32, 2, (uint64_t[]){WIDTH, VOCAB}, NULL);
        Str bytes = gguf_builder_end(&b);
        GgufPart part = {.data = (const uint8_t *)bytes.ptr, .size = bytes.len, .name = "test.gguf"};
        const GgufFile *file;
        Error err = {0};
        ModelConfig c;
        REQUIRE(gguf_parse(&part, 1, &arena, &file, &err));
        bool ok = config_read(file, arch_find(str_from_c(rows[i].architecture)), 1, &c, &err);
        CHECK(ok == !rows[i].message);
        if (rows[i].message && !strstr(err.message, rows[i].message))
            CHECK_STR_EQ(rows[i].message, err.message);
    }
}
