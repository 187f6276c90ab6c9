#include "arch/arch.h"

extern const Arch arch_llama;
extern const Arch arch_qwen2;
extern const Arch arch_qwen3;
extern const Arch arch_qwen3moe;
extern const Arch arch_phi3;
extern const Arch arch_gemma;
extern const Arch arch_gemma2;
extern const Arch arch_gemma3;
extern const Arch arch_gpt_oss;
extern const Arch arch_gpt2;
extern const Arch arch_smollm3;
extern const Arch arch_seed_oss;
extern const Arch arch_granite;
extern const Arch arch_minicpm;
extern const Arch arch_mistral3;
extern const Arch arch_glm4;
extern const Arch arch_arcee;
extern const Arch arch_ernie4_5;
extern const Arch arch_internlm2;
extern const Arch arch_baichuan;
extern const Arch arch_hunyuan_dense;
extern const Arch arch_command_r;
extern const Arch arch_cohere2;
extern const Arch arch_phi2;
extern const Arch arch_falcon;
extern const Arch arch_gptneox;
extern const Arch arch_stablelm;
extern const Arch arch_starcoder2;
extern const Arch arch_olmo2;
extern const Arch arch_exaone4;
extern const Arch arch_olmoe;
extern const Arch arch_qwen2moe;
extern const Arch arch_granitemoe;
extern const Arch arch_glm4moe;
extern const Arch arch_dots1;
extern const Arch arch_bailingmoe2;
extern const Arch arch_ernie4_5_moe;
extern const Arch arch_hunyuan_moe;
extern const Arch arch_gptoss;
extern const Arch arch_gemma4;
extern const Arch arch_lfm2;
extern const Arch arch_qwen35;
extern const Arch arch_nemotron_h;
extern const Arch arch_granite_hybrid;
extern const Arch arch_deepseek2;
extern const Arch arch_qwen3next;
extern const Arch arch_deci;
extern const Arch arch_qwen35moe;
extern const Arch arch_lfm2moe;
extern const Arch arch_nemotron_h_moe;
extern const Arch arch_llama4;
extern const Arch arch_muse_glimmer;
extern const Arch arch_gemma3n;

static const Arch *const architectures[] = {
    &arch_llama,         &arch_qwen2,        &arch_qwen3,       &arch_qwen3moe,       &arch_phi3,
    &arch_gemma,         &arch_gemma2,       &arch_gemma3,      &arch_gpt_oss,        &arch_gpt2,
    &arch_smollm3,       &arch_seed_oss,     &arch_granite,     &arch_minicpm,        &arch_mistral3,
    &arch_glm4,          &arch_arcee,        &arch_ernie4_5,    &arch_internlm2,      &arch_baichuan,
    &arch_hunyuan_dense, &arch_command_r,    &arch_cohere2,     &arch_phi2,           &arch_falcon,
    &arch_gptneox,       &arch_stablelm,     &arch_starcoder2,  &arch_olmo2,          &arch_exaone4,
    &arch_olmoe,         &arch_qwen2moe,     &arch_granitemoe,  &arch_glm4moe,        &arch_dots1,
    &arch_bailingmoe2,   &arch_ernie4_5_moe, &arch_hunyuan_moe, &arch_gptoss,         &arch_gemma4,
    &arch_lfm2,          &arch_qwen35,       &arch_nemotron_h,  &arch_granite_hybrid, &arch_deepseek2,
    &arch_qwen3next,     &arch_qwen35moe,    &arch_lfm2moe,     &arch_nemotron_h_moe, &arch_deci,
    &arch_llama4,        &arch_muse_glimmer, &arch_gemma3n,
};

const Arch *arch_at(uint32_t index) {
    return index < COUNT_OF(architectures) ? architectures[index] : NULL;
}

const Arch *arch_find(Str name) {
    for (uint32_t i = 0; i < COUNT_OF(architectures); i++) {
        if (str_eq(str_from_c(architectures[i]->name), name)) return architectures[i];
    }
    return NULL;
}

uint64_t arch_dim(const ModelConfig *c, Dim dim) {
    switch (dim) {
        // clang-format off
#define DIM(name, value) case DIM_##name: return value;
        // clang-format on
#include "arch/dim.def"
#undef DIM
    case DIM_COUNT: break;
    }
    return 0;
}

// Of a mixture of experts, a layer without them.
static bool is_dense(const ModelConfig *c, uint32_t layer) {
    return layer < c->n_leading || (c->expert_period && (layer + 1) % c->expert_period);
}

bool arch_rule_holds(LayerRule rule, const ModelConfig *c, uint32_t layer) {
    switch (rule) {
    case LAYERS_ALL: return true;
    case LAYERS_WINDOW: return c->window && c->has_window;
    case LAYERS_FULL: return !(c->window && c->has_window);
    case LAYERS_FULL_BESIDE: return c->window && !c->has_window;
    case LAYERS_PARALLEL: return c->parallel != 0;
    case LAYERS_LEADING: return is_dense(c, layer);
    case LAYERS_AFTER_LEADING: return !is_dense(c, layer);
    case LAYERS_SHARED: return c->d_ff_shared > 0;
    case LAYERS_LATENT: return c->d_latent > 0;
    case LAYERS_EXPERTS: return c->n_experts > 0;
    case LAYERS_EMBEDDED: return c->d_per_layer > 0;
    case LAYERS_OWN_KV: return layer + c->n_shared_kv < c->n_layers;
    case LAYERS_ATTENTION: return c->mixer == MIXER_ATTENTION;
    case LAYERS_STATE: return c->mixer == MIXER_STATE;
    case LAYERS_STATE_LEADING: return c->mixer == MIXER_STATE && is_dense(c, layer);
    case LAYERS_STATE_SHARED: return c->mixer == MIXER_STATE && c->d_ff_shared > 0;
    case LAYERS_NO_MIXER: return c->mixer == MIXER_NONE;
    case LAYERS_LINEAR: return c->mixer == MIXER_LINEAR;
    case LAYERS_FF: return c->d_ff > 0;
    case LAYERS_ATTENTION_ALONE: return c->mixer == MIXER_ATTENTION && c->d_ff == 0;
    case LAYERS_LINEAR_ALONE: return c->mixer == MIXER_LINEAR && c->d_ff == 0;
    case LAYERS_Q_RANK: return c->q_rank > 0;
    case LAYERS_NO_Q_RANK: return c->q_rank == 0;
    case LAYERS_NORM_TURNED: return c->norm_turned && !c->no_rope;
    case LAYERS_NORM_TURNED_LEADING: return c->norm_turned && !c->no_rope && is_dense(c, layer);
    }
    return false;
}
