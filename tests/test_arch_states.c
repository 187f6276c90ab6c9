// Models with layers that keep a state, and Gemma 4: what is wrong with their files; states of slots that
// come and go.
#include "arch_models.h"
#include "backend/backend.h"
#include "os/os.h"
#include "plan/plan.h"
#include "runner.h"

#include <stdio.h>

enum { TOKENS = 40, PAGES = (TOKENS + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS };

// ---- files ----

// The value of a key, behind its type; of an array, its index-th number.
static uint8_t *value_of(Str file, const char *architecture, const char *suffix, uint32_t index) {
    char key[96];
    int len = snprintf(key, sizeof key, "%s.%s", architecture, suffix);
    char *at = memmem(file.ptr, file.len, key, (size_t)len);
    REQUIRE(at != NULL);
    uint8_t *value = (uint8_t *)at + len;
    bool is_array = *value == GGUF_ARRAY;
    return value + 4 + (is_array ? 12 + 4 * index : 0);
}

static Str copy_of(const char *name, Arena *arena) {
    Str file = arch_model_build(arch_model_named(name));
    char *bytes = arena_new(arena, char, file.len);
    memcpy(bytes, file.ptr, file.len);
    return (Str){bytes, file.len};
}

static bool plan_of(Str file, Arena *arena, Plan **plan, Error *err) {
    GgufPart part = {.data = (const uint8_t *)file.ptr, .size = file.len, .name = "test.gguf"};
    const GgufFile *parsed;
    return gguf_parse(&part, 1, arena, &parsed, err) && plan_build(parsed, arena, plan, err);
}

enum { ABSENT = -1 };
#define MINUS_ONE 0xBF800000 // a float's bits

// clang-format off
static const struct {
    const char *model, *suffix;
    uint32_t index; // of an array
    int64_t value;
    const char *message; // NULL: none
} bad_files[] = {
    {"lfm2", "shortconv.l_cache", 0, ABSENT, "\"lfm2.shortconv.l_cache\""},
    {"lfm2", "shortconv.l_cache", 0, 1, "\"lfm2.shortconv.l_cache\": 1; expected 2 to 8"},
    {"lfm2", "shortconv.l_cache", 0, 4,
     "\"blk.0.shortconv.conv.weight\": expected shape [64, 4], found [64, 3]"},
    {"lfm2", "attention.head_count_kv", 0, ABSENT, "\"lfm2.attention.head_count_kv\""},
    {"lfm2", "attention.head_count_kv", 2, 0, "tensor \"blk.2.shortconv.in_proj.weight\" is missing"},
    {"lfm2", "attention.head_count_kv", 1, 2, "tensor \"blk.1.attn_q.weight\" is missing"},
    {"lfm2", "attention.head_count_kv", 2, 3,
     "head_count_kv of layer 2 is 3; expected a divisor of layer 2's head_count 4"},
    {"qwen35", "ssm.conv_kernel", 0, ABSENT, "\"qwen35.ssm.conv_kernel\""},
    {"qwen35", "ssm.conv_kernel", 0, 9, "\"qwen35.ssm.conv_kernel\": 9; expected 2 to 8"},
    {"qwen35", "ssm.inner_size", 0, ABSENT, "\"qwen35.ssm.inner_size\""},
    {"qwen35", "ssm.inner_size", 0, 98,
     "qwen35.ssm.time_step_rank is 4; expected a multiple of group_count 2 "
     "that divides inner_size 98"},
    {"qwen35", "ssm.inner_size", 0, 128,
     "\"blk.0.attn_qkv.weight\": expected shape [192, 64], found [160, 64]"},
    {"qwen35", "ssm.state_size", 0, 0, "qwen35.ssm.state_size is 0; expected 1 to 512"},
    {"qwen35", "ssm.state_size", 0, 0xFFFFFFFF, "qwen35.ssm.state_size is 4294967295; expected 1 to 512"},
    {"qwen35", "ssm.time_step_rank", 0, 3, "time_step_rank is 3; expected a multiple of group_count 2"},
    {"qwen35", "ssm.time_step_rank", 0, 0, "qwen35.ssm.time_step_rank is 0; expected 1 to 4096"},
    {"qwen35", "ssm.group_count", 0, 0, "qwen35.ssm.group_count is 0; expected 1 to 4"},
    {"qwen35", "ssm.group_count", 0, 5, "qwen35.ssm.group_count is 5; expected 1 to 4"},
    {"qwen35", "full_attention_interval", 0, 0,
     "\"qwen35.full_attention_interval\": 0; expected 1 to 512"},
    {"qwen35", "full_attention_interval", 0, 2, "tensor \"blk.1.attn_q.weight\" is missing"},
    {"qwen35", "attention.value_length", 0, 16, "\"blk.2.attn_v.weight\": expected shape [32, 64]"},
    {"nemotron-h", "feed_forward_length", 0, 96, "tensor \"blk.0.ffn_up.weight\" is missing"},
    {"nemotron-h", "feed_forward_length", 2, 96,
     "layer 2 has both nemotron_h.attention.head_count_kv 2 and "
     "feed_forward_length 96; expected one of them"},
    {"nemotron-h", "feed_forward_length", 1, 0, "tensor \"blk.1.ssm_in.weight\" is missing"},
    {"nemotron-h", "ssm.group_count", 0, 4,
     "\"blk.0.ssm_in.weight\": expected shape [324, 64], found [260, 64]"},
    {"nemotron-h", "ssm.group_count", 0, 2, NULL},
    {"qwen35moe", "ssm.state_size", 0, ABSENT, "\"qwen35moe.ssm.state_size\""},
    {"qwen35moe", "expert_count", 0, ABSENT, "\"qwen35moe.expert_count\""},
    {"qwen35moe", "expert_count", 0, 0, "qwen35moe.expert_used_count is 3; expected 0 to 0"},
    {"qwen35moe", "expert_count", 0, 4,
     "\"blk.0.ffn_gate_inp.weight\": expected shape [4, 64], found [8, 64]"},
    {"qwen35moe", "expert_used_count", 0, 9, "qwen35moe.expert_used_count is 9; expected 1 to 8"},
    {"qwen35moe", "expert_feed_forward_length", 0, 64,
     "\"blk.0.ffn_gate_up_exps.weight\": expected shape [8, 128, 64], found [8, 64, 64]"},
    {"qwen35moe", "expert_shared_feed_forward_length", 0, 96,
     "\"blk.0.ffn_gate_shexp.weight\": expected shape [96, 64], found [64, 64]"},
    {"qwen35moe", "feed_forward_length", 0, ABSENT, NULL},
    {"qwen35moe", "nextn_predict_layers", 0, 5, "qwen35moe.nextn_predict_layers is 5; expected 0 to 4"},
    {"qwen35moe", "nextn_predict_layers", 0, 0, "tensor \"blk.4.attn_qkv.weight\" is missing"},
    {"qwen3next", "ssm.conv_kernel", 0, ABSENT, "\"qwen3next.ssm.conv_kernel\""},
    {"qwen3next", "ssm.time_step_rank", 0, 2, "\"blk.0.ssm_dt\": expected shape [2], found [4]"},
    {"qwen3next-fused", "ssm.state_size", 0, 32,
     "\"blk.0.ssm_in.weight\": expected shape [320, 64], found [256, 64]"},
    {"qwen3next-fused", "ssm.group_count", 0, 4,
     "\"blk.0.ssm_in.weight\": expected shape [320, 64], found [256, 64]"},
    {"qwen3next", "full_attention_interval", 0, 513,
     "\"qwen3next.full_attention_interval\": 513; expected 1 to 512"},
    {"lfm2moe", "leading_dense_block_count", 0, 2, "tensor \"blk.1.ffn_gate.weight\" is missing"},
    {"lfm2moe", "leading_dense_block_count", 0, 5,
     "lfm2moe.leading_dense_block_count is 5; expected 0 to 4"},
    {"lfm2moe", "expert_gating_func", 0, 4, "lfm2moe.expert_gating_func is 4; expected 1 to 3"},
    {"lfm2moe", "shortconv.l_cache", 0, ABSENT, "\"lfm2moe.shortconv.l_cache\""},
    {"lfm2moe", "attention.head_count_kv", 0, 2, "tensor \"blk.0.attn_q.weight\" is missing"},
    {"nemotron-h-moe", "feed_forward_length", 0, 32, "tensor \"blk.0.ffn_up_shexp.weight\" is missing"},
    {"nemotron-h-moe", "expert_shared_feed_forward_length", 0, 0,
     "\"blk.1.ffn_up_shexp.weight\": expected shape [32, 64], found [64, 64]"},
    {"nemotron-h-latent", "moe_latent_size", 0, 64,
     "\"blk.1.ffn_latent_down.weight\": expected shape [64, 64], found [32, 64]"},
    {"nemotron-h-latent", "moe_latent_size", 0, 0,
     "\"blk.1.ffn_up_exps.weight\": expected shape [40, 32, 64], found [40, 32, 32]"},
    {"nemotron-h-latent", "moe_latent_size", 0, 1 << 18,
     "nemotron_h_moe.moe_latent_size is 262144; expected 0 to 131072"},
    {"nemotron-h-latent", "expert_group_count", 0, 3,
     "nemotron_h_moe.expert_group_count is 3 and expert_group_used_count 1, which does not fit 40 "
     "experts"},
    {"deci", "attention.head_count_kv", 0, ABSENT, "\"deci.attention.head_count_kv\""},
    {"deci", "attention.head_count_kv", 0, 0, "\"blk.0.attn_q.weight\": architecture deci has no use for it"},
    {"deci", "attention.head_count_kv", 3, 3,
     "head_count_kv of layer 3 is 3; expected a divisor of layer 3's head_count 4"},
    {"deci", "attention.head_count", 2, 4, "tensor \"blk.2.attn_norm.weight\" is missing"},
    {"deci", "feed_forward_length", 3, 96, "tensor \"blk.3.ffn_norm.weight\" is missing"},
    {"deci", "feed_forward_length", 1, 0,
     "\"blk.1.ffn_gate.weight\": architecture deci has no use for it"},
    {"granite-hybrid-moe", "expert_count", 0, 16,
     "\"blk.0.ffn_gate_inp.weight\": expected shape [16, 64], found [8, 64]"},
    {"granite-hybrid-moe", "expert_count", 0, 0,
     "expert_used_count\": its value is 3, but granitehybrid.expert_count is 0 or missing"},
    {"gemma4-e4b", "attention.shared_kv_layers", 0, 6,
     "gemma4.attention.shared_kv_layers is 6; expected 0 to 5"},
    {"gemma4-e4b", "attention.shared_kv_layers", 0, 4,
     "shared_kv_layers is 4: layer 2 shares keys and values, but no layer without a window has its own"},
    {"gemma4-e4b", "attention.shared_kv_layers", 0, 0, "tensor \"blk.4.attn_k.weight\" is missing"},
    {"gemma4-e4b", "attention.shared_kv_layers", 0, 3, NULL}, // layer 3's keys are not used
    {"gemma4-e4b", "attention.key_length", 0, 96,
     "\"blk.2.attn_q.weight\": expected shape [384, 64], found [256, 64]"},
    {"gemma4-e4b", "attention.key_length_swa", 0, 64,
     "\"blk.0.attn_q.weight\": expected shape [256, 64], found [128, 64]"},
    {"gemma4-e4b", "attention.key_length_swa", 0, 2048,
     "gemma4.attention.key_length_swa is 2048; expected 1 to 1024"},
    {"gemma4-e4b", "attention.value_length_swa", 0, 2048,
     "gemma4.attention.value_length_swa is 2048; expected 1 to 1024"},
    {"gemma4-e4b", "attention.key_length", 0, 2048,
     "gemma4.attention.key_length is 2048; expected 1 to 1024"},
    {"gemma4-e4b", "rope.dimension_count_swa", 0, 64,
     "gemma4.rope.dimension_count_swa is 64; expected 0 to 32"},
    {"gemma4-e4b", "rope.dimension_count_swa", 0, 31, "gemma4.rope.dimension_count_swa is 31, not even"},
    {"gemma4-e4b", "rope.freq_base_swa", 0, MINUS_ONE,
     "gemma4.rope.freq_base_swa is -1; expected 1 to 1e+30"},
    {"gemma4-e4b", "rope.freq_base", 0, MINUS_ONE, "gemma4.rope.freq_base is -1; expected 1 to 1e+30"},
    {"gemma4-e4b", "rope.dimension_count", 0, 16, "\"rope_freqs.weight\": expected shape [8], found [32]"},
    {"gemma4-e4b", "embedding_length_per_layer_input", 0, 16,
     "\"per_layer_token_embd.weight\": expected shape [64, 96], found [64, 768]"},
    {"gemma4-e4b", "embedding_length_per_layer_input", 0, 0,
     "\"per_layer_token_embd.weight\": architecture gemma4 has no use for it"},
    {"gemma4-31b", "embedding_length_per_layer_input", 0, 16,
     "tensor \"per_layer_token_embd.weight\" is missing"},
    {"gemma4-e2b", "feed_forward_length", 3, 96,
     "\"blk.3.ffn_gate.weight\": expected shape [96, 64], found [256, 64]"},
    {"gemma4-31b", "attention.head_count_kv", 5, 2,
     "\"blk.5.attn_k.weight\": expected shape [128, 64], found [64, 64]"},
    {"gemma4-31b", "attention.shared_kv_layers", 0, 1, NULL},
    {"gemma4-31b", "attention.head_count_kv", 0, 3, "head_count_kv of layer 0 is 3; expected a divisor of"},
    {"gemma4-26b", "expert_used_count", 0, 9, "gemma4.expert_used_count is 9; expected 1 to 8"},
    {"gemma4-26b", "expert_feed_forward_length", 0, 64,
     "\"blk.0.ffn_gate_up_exps.weight\": expected shape [8, 128, 64], found [8, 64, 64]"},
};
// clang-format on

TEST(arch_errors_name_the_key_and_the_place) {
    for (size_t i = 0; i < COUNT_OF(bad_files); i++) {
        TEST_CASE_LABEL("%s, %s = %lld", bad_files[i].model, bad_files[i].suffix,
                        (long long)bad_files[i].value);
        Arena arena = os_arena(1 << 23);
        Str file = copy_of(bad_files[i].model, &arena);
        const char *architecture = arch_model_architecture(arch_model_named(bad_files[i].model));
        uint8_t *value = value_of(file, architecture, bad_files[i].suffix, bad_files[i].index);
        uint32_t number = (uint32_t)bad_files[i].value;
        if (bad_files[i].value == ABSENT)
            memset(value_of(file, architecture, bad_files[i].suffix, 0) - 4 - 3, 'x', 3);
        else memcpy(value, &number, sizeof number);
        Plan *plan;
        Error err = {0};
        CHECK(plan_of(file, &arena, &plan, &err) == !bad_files[i].message);
        if (bad_files[i].message && !strstr(err.message, bad_files[i].message))
            CHECK_STR_EQ(bad_files[i].message, err.message);
    }
}

// ---- states of slots ----

typedef struct {
    Plan *plan;
    Backend *backend;
    uint32_t pages[2 * PAGES];
} Model;

static bool open_model(Str file, Arena *arena, Model *out, Error *err) {
    BackendOptions options = {.n_slots = 2,
                              .max_rows = 2 * TOKENS,
                              .kv_texts = 2,
                              .kv_text_tokens = PAGES * KV_PAGE_TOKENS,
                              .n_threads = 1};
    for (uint32_t i = 0; i < COUNT_OF(out->pages); i++)
        out->pages[i] = i;
    return plan_of(file, arena, &out->plan, err) && out->plan->n_context <= 1024 &&
           out->plan->kv.n_lists == 1 && cpu_backend_open(&options, arena, &out->backend, err) &&
           out->backend->load(out->backend, out->plan, NULL, NULL, err);
}

static StepSequence rows_of(Model *m, uint32_t slot, const int32_t *tokens, uint32_t from, uint32_t count) {
    return (StepSequence){.slot = slot,
                          .position = from,
                          .n_rows = count,
                          .tokens = tokens + from,
                          .pages = m->pages + slot * PAGES,
                          .list_pages = PAGES};
}

// Runs a step; the logits of its last row go to `out`, where it is one sequence's.
static void run(Model *m, const StepSequence *sequences, uint32_t n, float *out) {
    StepResult result;
    Error err = {0};
    REQUIRE(m->backend->step(m->backend, &(Step){.sequences = sequences, .n_sequences = n}, &err));
    REQUIRE(m->backend->read(m->backend, &result, &err));
    if (out) memcpy(out, result.logits, ARCH_MODEL_VOCAB * sizeof *out);
}

// A text's state is its own: beside another text that begins, ends and begins again in the next slot, and
// behind another one in its own.
TEST(state_belongs_to_one_text) {
    int32_t tokens[ARCH_MODEL_TOKENS];
    arch_model_tokens(tokens);
    for (uint32_t i = 0; arch_state_model_at(i); i++) {
        TEST_CASE_LABEL("%s", arch_model_name(arch_state_model_at(i)));
        Arena arena = os_arena(64 << 20);
        Model m;
        Error err = {0};
        float alone[ARCH_MODEL_VOCAB], beside[ARCH_MODEL_VOCAB];
        REQUIRE(open_model(arch_model_build(arch_state_model_at(i)), &arena, &m, &err));
        StepSequence all = rows_of(&m, 0, tokens, 0, TOKENS);
        all.n_logits = 1;
        run(&m, &all, 1, alone);
        for (uint32_t at = 0; at + 1 < TOKENS; at++) {
            StepSequence both[] = {rows_of(&m, 1, tokens + 7, at % 5, 1), rows_of(&m, 0, tokens, at, 1)};
            run(&m, both, 2, NULL);
        }
        StepSequence last = rows_of(&m, 0, tokens, TOKENS - 1, 1);
        last.n_logits = 1;
        run(&m, &last, 1, beside);
        CHECK_BYTES_EQ(alone, sizeof alone, beside, sizeof beside);
        m.backend->close(m.backend);
    }
}

// Files whose numbers are anything are refused, or make a plan whose step touches nothing but its own memory.
TEST(state_files_of_any_numbers) {
    enum { FILES = 160 };
    int32_t tokens[ARCH_MODEL_TOKENS];
    arch_model_tokens(tokens);
    uint32_t n_run = 0;
    for (uint32_t i = 0; arch_state_model_at(i); i++) {
        const char *name = arch_model_name(arch_state_model_at(i));
        const char *architecture = arch_model_architecture(arch_state_model_at(i));
        for (uint64_t seed = 0; seed < FILES; seed++) {
            TEST_CASE_LABEL("%s, %llu", name, (unsigned long long)seed);
            Arena arena = os_arena(64 << 20);
            Str file = copy_of(name, &arena);
            // Somewhere among the keys; mostly in the low byte of a number.
            char *keys = memmem(file.ptr, file.len, architecture, strlen(architecture));
            const char *end = memmem(file.ptr, file.len, "test.tokens", 11);
            RngBlock random = rng_philox(seed, i);
            uint64_t at = random.word[0] % (uint64_t)(end - keys);
            while (random.word[1] % 4 && keys + at + 1 < end && (uint8_t)keys[at] - 1u >= 31u)
                at++;
            keys[at] = (char)(keys[at] + (random.word[2] % 2 ? 1 : (int)(random.word[3] % 255) + 1));
            Model m;
            Error err = {0};
            if (!open_model(file, &arena, &m, &err)) continue;
            StepSequence all = rows_of(&m, 0, tokens, 0, TOKENS);
            run(&m, &all, 1, NULL);
            m.backend->close(m.backend);
            n_run++;
        }
    }
    CHECK(n_run > 10);
    printf("%u of them ran\n", n_run);
}
