// What files of Llama 4, Muse Glimmer and Gemma 3n are refused for.
#include "arch_model_rows.h"
#include "os/os.h"
#include "plan/plan.h"
#include "runner.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static bool plan_of(Str file, Arena *arena, Error *err) {
    GgufPart part = {.data = (const uint8_t *)file.ptr, .size = file.len, .name = "test.gguf"};
    const GgufFile *parsed;
    Plan *plan;
    return gguf_parse(&part, 1, arena, &parsed, err) && plan_build(parsed, arena, &plan, err);
}

TEST(arch_keys_of_newer_models_are_checked) {
    static const struct {
        const char *model, *suffix;
        double value;
        const char *message; // NULL: read
    } rows[] = {
        {"llama4-scout", "interleave_moe_layer_step", ARCH_KEY_ABSENT,
         "\"llama4.interleave_moe_layer_step\""},
        {"llama4-scout", "interleave_moe_layer_step", 6,
         "llama4.interleave_moe_layer_step is 6; expected 0 to 5"},
        {"llama4-scout", "interleave_moe_layer_step", 2, "tensor \"blk.0.ffn_gate.weight\" is missing"},
        {"llama4-maverick", "interleave_moe_layer_step", 1,
         "tensor \"blk.0.ffn_gate_inp.weight\" is missing"},
        {"llama4-scout", "expert_feed_forward_length", 32,
         "\"blk.0.ffn_gate_exps.weight\": expected shape [8, 32, 64], found [8, 64, 64]"},
        {"llama4-scout", "expert_gating_func", 4, "llama4.expert_gating_func is 4; expected 1 to 3"},
        {"llama4-scout", "expert_used_count", 9, "llama4.expert_used_count is 9; expected 1 to 8"},
        {"llama4-scout", "attention.temperature_length", 1 << 25,
         "llama4.attention.temperature_length is 33554432; expected 1 to 16777216"},
        {"llama4-scout", "attention.sliding_window", 0, NULL},
        {"llama4-scout", "attention.sliding_window", ARCH_KEY_ABSENT, NULL},
        {"muse-glimmer", "logit_scale", ARCH_KEY_ABSENT, "\"muse-glimmer.logit_scale\""},
        {"muse-glimmer", "final_logit_softcapping", ARCH_KEY_ABSENT,
         "\"muse-glimmer.final_logit_softcapping\""},
        {"muse-glimmer", "final_logit_softcapping", -1, "final_logit_softcapping is -1; expected 0.01"},
        {"muse-glimmer", "attention.sliding_window", ARCH_KEY_ABSENT,
         "\"muse-glimmer.attention.sliding_window\""},
        {"muse-glimmer", "attention.sliding_window", 0,
         "\"muse-glimmer.attention.sliding_window\": 0; expected 1 to 4294967295"},
        {"muse-glimmer", "block_count", 0, "\"muse-glimmer.block_count\": 0; expected 1 to 512"},
        {"muse-glimmer", "block_count", 4, "5 values; expected one for each of 4 blocks"},
        {"muse-glimmer", "attention.key_length", 16,
         "\"blk.0.attn_q.weight\": expected shape [64, 64], found [128, 64]"},
        {"gemma3n", "altup.num_inputs", 3,
         "\"altup_proj.weight\": expected shape [2, 64, 64], found [3, 64, 64]"},
        {"gemma3n", "altup.num_inputs", 1, "gemma3n.altup.num_inputs is 1; expected 2 to 8"},
        {"gemma3n", "altup.num_inputs", 9, "gemma3n.altup.num_inputs is 9; expected 2 to 8"},
        {"gemma3n", "altup.active_idx", 4, "gemma3n.altup.active_idx is 4; expected 0 to 3"},
        {"gemma3n", "altup.active_idx", ARCH_KEY_ABSENT, "\"gemma3n.altup.active_idx\""},
        {"gemma3n", "altup.correct_scale", 0, "streams whose news are not scaled"},
        {"gemma3n", "swiglu_clamp_exp", 7, "clamped activations of architecture gemma3n are not supported"},
        {"gemma3n", "swiglu_clamp_exp", 0, NULL},
        {"llama4-scout", "swiglu_clamp_shexp", 7, "clamped activations of architecture llama4"},
        {"llama4-scout", "full_attention_interval", 4, "layers without attention of architecture llama4"},
        {"llama4-scout", "full_attention_interval", 1, NULL},
        {"llama4-scout", "hidden_activation", 0, "activations by name of architecture llama4"},
        {"llama4-scout", "experts_per_group", 2, "experts in groups of architecture llama4"},
        {"gemma3n", "activation_sparsity_scale", ARCH_KEY_ABSENT, "\"gemma3n.activation_sparsity_scale\""},
        {"gemma3n", "attention.shared_kv_layers", 1.5, "1.5; expected a whole number"},
        {"gemma3n", "attention.shared_kv_layers", -1, "-1; expected a whole number"},
        {"gemma3n", "attention.shared_kv_layers", 6,
         "gemma3n.attention.shared_kv_layers is 6; expected 0 to 5"},
        {"gemma3n", "attention.shared_kv_layers", 1, "tensor \"blk.4.attn_k.weight\" is missing"},
        {"gemma3n", "attention.shared_kv_layers", 5, "no layer without a window has its own"},
        {"gemma3n", "embedding_length_per_layer_input", 64,
         "\"per_layer_token_embd.weight\": expected shape [64, 384], found [64, 768]"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s, %s = %g", rows[i].model, rows[i].suffix, rows[i].value);
        Arena arena = os_arena(1 << 23);
        Error err = {0};
        Str file = arch_model_build_with(arch_model_named(rows[i].model), rows[i].suffix, rows[i].value);
        CHECK((rows[i].message == NULL) == plan_of(file, &arena, &err));
        if (rows[i].message && !strstr(err.message, rows[i].message))
            CHECK_STR_EQ(rows[i].message, err.message);
    }
}

// How many shared experts there are, where the file says how wide they are, too.
TEST(arch_shared_experts_are_counted) {
    static const struct {
        const char *model;
        uint32_t count, width; // of all in the tensors: 128, but for hunyuan-moe's 32 and nemotron's 64
        const char *message;   // NULL: read
    } rows[] = {
        {"ernie4_5-moe", 4, 128, NULL},
        {"ernie4_5-moe", 1, 128, NULL},
        {"ernie4_5-moe", 0, 128,
         "ernie4_5-moe.expert_shared_count is 0, but expert_shared_feed_forward_length is 128"},
        {"ernie4_5-moe", 2, 128,
         "ernie4_5-moe.expert_shared_count is 2, but expert_shared_feed_forward_length 128 is not so many "
         "times "
         "expert_feed_forward_length 32"},
        {"ernie4_5-moe", 3, 128, "ernie4_5-moe.expert_shared_count is 3, but"},
        {"ernie4_5-moe", 1U << 27, 128,
         "ernie4_5-moe.expert_shared_count is 134217728; expected 0 to 512"}, // 2^32 in all
        {"glm4moe", 2, 128, "glm4moe.expert_shared_count is 2, but"},
        {"glm4moe", 4, 128, NULL},
        {"bailingmoe2", 1, 128, NULL},
        {"bailingmoe2", 2, 64, NULL},
        {"bailingmoe2", 4, 32, NULL},
        {"bailingmoe2", 0, 128, "bailingmoe2.expert_shared_count is 0, but"},
        {"bailingmoe2", 2, 128, "\"blk.1.ffn_gate_shexp.weight\": expected shape [256, 64], found [128, 64]"},
        {"bailingmoe2", 3, 128, "\"blk.1.ffn_gate_shexp.weight\": expected shape [384, 64], found [128, 64]"},
        {"bailingmoe2", 512, 1 << 23, "bailingmoe2.expert_shared_feed_forward_length is"},
        {"hunyuan-moe", 1, 32, NULL},
        {"hunyuan-moe", 0, 32, "hunyuan-moe.expert_shared_count is 0, but"},
        {"hunyuan-moe", 2, 32,
         "hunyuan-moe.expert_shared_count is 2; whether expert_shared_feed_forward_length 32 is then the "
         "width"},
        {"hunyuan-moe", 3, 32, "hunyuan-moe.expert_shared_count is 3; whether"},
        {"nemotron-h-moe", 1, 64, NULL},
        {"nemotron-h-moe", 0, 64, "nemotron_h_moe.expert_shared_count is 0, but"},
        {"nemotron-h-moe", 2, 64, "nemotron_h_moe.expert_shared_count is 2; whether"},
        {"nemotron-h-moe", 3, 64, "nemotron_h_moe.expert_shared_count is 3; whether"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s, %u of %u", rows[i].model, rows[i].count, rows[i].width);
        ArchModel m = *arch_model_named(rows[i].model);
        Arena arena = os_arena(1 << 23);
        Error err = {0};
        for (size_t k = 0; k < KEYS_MAX; k++) {
            if (m.keys[k].type && strcmp(m.keys[k].suffix, "expert_shared_count") == 0)
                m.keys[k].number = rows[i].count;
        }
        Str file = arch_model_build_with(&m, "expert_shared_feed_forward_length", rows[i].width);
        CHECK((rows[i].message == NULL) == plan_of(file, &arena, &err));
        if (rows[i].message && !strstr(err.message, rows[i].message))
            CHECK_STR_EQ(rows[i].message, err.message);
    }
}

// What makes frequencies or the factor on cosines infinite, in the numbers together and in the tensor of
// factors.
TEST(arch_rope_stays_finite) {
    Arena arena = os_arena(1 << 23);
    Error err = {0};
    ArchModel m = *arch_model_named("mistral3");
    for (size_t k = 0; k < KEYS_MAX; k++) {
        if (m.keys[k].type && strcmp(m.keys[k].suffix, "rope.scaling.factor") == 0) m.keys[k].number = 1e6;
    }
    CHECK(plan_of(arch_model_build(&m), &arena, &err));
    CHECK(!plan_of(arch_model_build_with(&m, "rope.scaling.yarn_log_multiplier", -0.72382414), &arena, &err));
    CHECK(strstr(err.message, "mistral3.rope.scaling.yarn_log_multiplier is -0.723824, which multiplies"));

    static const float bad[] = {1e-45f, 0, -1, NAN};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        TEST_CASE_LABEL("%g", (double)bad[i]);
        Arena own = os_arena(1 << 23);
        Str file = arch_model_build(arch_model_named("llama"));
        GgufPart part = {.data = (const uint8_t *)file.ptr, .size = file.len, .name = "test.gguf"};
        const GgufFile *parsed;
        Plan *plan;
        REQUIRE(gguf_parse(&part, 1, &own, &parsed, &err));
        const GgufTensor *factors = gguf_find_tensor(parsed, STR("rope_freqs.weight"));
        REQUIRE(factors && factors->dtype == DTYPE_F32);
        memcpy((char *)file.ptr + factors->file_offset + sizeof(float), &bad[i], sizeof(float));
        CHECK(!plan_build(parsed, &own, &plan, &err));
        if (!strstr(err.message, "tensor \"rope_freqs.weight\": factor 1 is "))
            CHECK_STR_EQ("factor 1 is", err.message);
    }
}

// A number of deviations for each layer.
TEST(arch_sparsities_are_checked) {
    static const float of_nothing[] = {1, NAN, 0, 0, 0, 0}, too_far[] = {1, 1, 1e9f, 0, 0, 0},
                       below_all[] = {1, 1, 1, -1e38f, 0, 0}, some_are[] = {-INFINITY, -1, 1, 1, 1, 1},
                       all_are[] = {0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f};
    static const struct {
        const float *values;
        const char *message; // NULL: read
    } rows[] = {
        {of_nothing, "gemma3n.activation_sparsity_scale of layer 1 is nan; expected a number of deviations"},
        {too_far, "gemma3n.activation_sparsity_scale of layer 2 is 1e+09"},
        {below_all,
         "gemma3n.activation_sparsity_scale of layer 3 is -1e+38; expected a number of deviations"},
        {all_are, NULL},
        {some_are, NULL},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        ArchModel m = *arch_model_named("gemma3n");
        Arena arena = os_arena(1 << 23);
        Error err = {0};
        for (size_t k = 0; k < KEYS_MAX; k++)
            if (m.keys[k].type == KEY_F32S) m.keys[k].floats = rows[i].values;
        CHECK((rows[i].message == NULL) == plan_of(arch_model_build(&m), &arena, &err));
        if (rows[i].message && !strstr(err.message, rows[i].message))
            CHECK_STR_EQ(rows[i].message, err.message);
    }
}

// Each fourth layer of Llama 4 sees all, unturned, with scores that grow; the others a chunk, normed.
TEST(arch_llama4_layers_take_turns) {
    Arena arena = os_arena(1 << 23);
    Error err = {0};
    Str file = arch_model_build(arch_model_named("llama4-scout"));
    GgufPart part = {.data = (const uint8_t *)file.ptr, .size = file.len, .name = "test.gguf"};
    const GgufFile *parsed;
    Plan *plan;
    REQUIRE(gguf_parse(&part, 1, &arena, &parsed, &err) && plan_build(parsed, &arena, &plan, &err));
    for (uint32_t i = 0; i < plan->n_ops; i++) {
        const Op *op = &plan->ops[i];
        bool sees_all = op->layer % 4 == 3;
        CHECK(op->kind != OP_ROPE || !sees_all);
        if (op->kind != OP_ATTENTION) continue;
        CHECK_INT_EQ(!sees_all, op->attention.is_chunked);
        CHECK_INT_EQ(sees_all, op->attention.temperature_scale > 0);
        CHECK_INT_EQ(sees_all ? 0 : 46, op_first_seen(op, 46));
        CHECK_INT_EQ(sees_all ? 0 : 23, op_first_seen(op, 45));
        CHECK_INT_EQ(0, op_first_seen(op, 22));
    }
}

// A file that has lost one layer's tensor of those that a model may do without.
TEST(arch_tensors_are_of_all_layers_or_none) {
    static const char *const rows[][2] = {
        {"glm4moe", "exp_probs_b.bias"},       {"glm4moe", "attn_q_norm.weight"},
        {"nemotron-h", "ssm_conv1d.bias"},     {"starcoder2", "attn_output.bias"},
        {"falcon", "attn_norm_2.weight"},      {"gemma4-e4b", "layer_output_scale.weight"},
        {"gemma4-26b", "ffn_down_exps.scale"}, {"gemma4-31b", "attn_v.weight"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s, %s", rows[i][0], rows[i][1]);
        char message[96];
        Arena arena = os_arena(1 << 23);
        Error err = {0};
        Str file = arch_model_build(arch_model_named(rows[i][0]));
        CHECK(plan_of(file, &arena, &err));
        char *at = memmem(file.ptr, file.len, rows[i][1], strlen(rows[i][1]));
        REQUIRE(at);
        *at = '_'; // another name
        CHECK(!plan_of(file, &arena, &err));
        snprintf(message, sizeof message, "%s\" is missing; ", rows[i][1]);
        if (!strstr(err.message, message)) CHECK_STR_EQ(message, err.message);
    }
}
