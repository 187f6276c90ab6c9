"""Models with layers that keep a state, for make_arch.py: their configurations, and where transformers' parameters are in
a file."""
import re

import torch
import transformers
from transformers.models.qwen3_5_moe.configuration_qwen3_5_moe import Qwen3_5MoeTextConfig
from transformers.models.qwen3_5_moe.modeling_qwen3_5_moe import Qwen3_5MoeForCausalLM
from transformers.models.qwen3_5.configuration_qwen3_5 import Qwen3_5TextConfig
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5ForCausalLM


def kv_heads(f):
    """Heads of keys of the layers that have some."""
    heads = f.get("attention.head_count_kv")
    return max(heads) if isinstance(heads, list) else heads


def base(f):
    return dict(vocab_size=f.tensors["token_embd.weight"].shape[0], hidden_size=f.get("embedding_length"),
                num_attention_heads=f.get("attention.head_count"), num_key_value_heads=kv_heads(f),
                max_position_embeddings=f.get("context_length"),
                tie_word_embeddings="output.weight" not in f.tensors, bos_token_id=0, eos_token_id=0, pad_token_id=0,
                attn_implementation="eager")


def lfm(f):
    """What LFM2 and its mixtures of experts call alike."""
    kinds = ["full_attention" if heads else "conv" for heads in f.get("attention.head_count_kv")]
    return dict(base(f), num_hidden_layers=len(kinds), layer_types=kinds, intermediate_size=f.get("feed_forward_length"),
                norm_eps=f.get("attention.layer_norm_rms_epsilon"), conv_L_cache=f.get("shortconv.l_cache"),
                rope_parameters={"rope_type": "default", "rope_theta": f.get("rope.freq_base")})


def lfm2(f):
    return transformers.Lfm2ForCausalLM(transformers.Lfm2Config(**lfm(f), block_auto_adjust_ff_dim=False))


def lfm2moe(f):
    return transformers.Lfm2MoeForCausalLM(transformers.Lfm2MoeConfig(
        **lfm(f), num_dense_layers=f.get("leading_dense_block_count"), num_experts=f.get("expert_count"),
        num_experts_per_tok=f.get("expert_used_count"), moe_intermediate_size=f.get("expert_feed_forward_length")))


def qwen_next(f):
    """What Qwen3-Next and Qwen3.5 call alike."""
    head_dim, heads = f.get("attention.key_length"), f.get("ssm.time_step_rank")
    layers = f.get("block_count") - f.get("nextn_predict_layers", 0)
    return dict(**base(f), num_hidden_layers=layers, head_dim=head_dim,
                intermediate_size=f.get("feed_forward_length"), rms_norm_eps=f.get("attention.layer_norm_rms_epsilon"),
                layer_types=["linear_attention" if (i + 1) % f.get("full_attention_interval") else "full_attention"
                             for i in range(layers)],
                rope_parameters={"rope_type": "default", "rope_theta": f.get("rope.freq_base"),
                                 "partial_rotary_factor": f.get("rope.dimension_count") / head_dim},
                linear_conv_kernel_dim=f.get("ssm.conv_kernel"), linear_key_head_dim=f.get("ssm.state_size"),
                linear_value_head_dim=f.get("ssm.inner_size") // heads, linear_num_value_heads=heads,
                linear_num_key_heads=f.get("ssm.group_count"))


def qwen35(f, model=Qwen3_5ForCausalLM, config_of=Qwen3_5TextConfig, **more):
    config = dict(qwen_next(f), **more)
    half = f.get("rope.dimension_count") // 2
    config["rope_parameters"].update(mrope_section=[half - 2, 1, 1], mrope_interleaved=True)
    return model(config_of(**config))


def qwen_experts(f):
    return dict(num_experts=f.get("expert_count"), num_experts_per_tok=f.get("expert_used_count"),
                moe_intermediate_size=f.get("expert_feed_forward_length"),
                shared_expert_intermediate_size=f.get("expert_shared_feed_forward_length"))


def qwen35moe(f):
    f.unread -= {name for name in f.unread if name.startswith(f"blk.{f.get('block_count') - 1}.")}  # guesses ahead
    return qwen35(f, Qwen3_5MoeForCausalLM, Qwen3_5MoeTextConfig, **qwen_experts(f))


def qwen3next(f):
    return transformers.Qwen3NextForCausalLM(transformers.Qwen3NextConfig(
        **qwen_next(f), **qwen_experts(f), norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[]))


def nemotron_h_moe(f):
    return nemotron_h(f, "moe", n_routed_experts=f.get("expert_count"), num_experts_per_tok=f.get("expert_used_count"),
                      moe_intermediate_size=f.get("expert_feed_forward_length"),
                      moe_shared_expert_intermediate_size=f.get("expert_shared_feed_forward_length"),
                      moe_latent_size=f.get("moe_latent_size"), routed_scaling_factor=f.get("expert_weights_scale"),
                      n_group=f.get("expert_group_count"), topk_group=f.get("expert_group_used_count", 1),
                      norm_topk_prob=f.get("expert_weights_norm"))


def nemotron_h(f, feed_forward="mlp", **more):
    kinds = []
    for heads, ff in zip(f.get("attention.head_count_kv"), f.get("feed_forward_length")):
        kinds.append("full_attention" if heads else feed_forward if ff else "linear_attention")
    heads = f.get("ssm.time_step_rank")
    # time_step_min bounds dt from below in transformers alone: the kernels that models are run with do not.
    return transformers.NemotronHForCausalLM(transformers.NemotronHConfig(
        **base(f), layers_block_type=kinds, head_dim=f.get("attention.key_length"),
        intermediate_size=max(f.get("feed_forward_length")), ssm_state_size=f.get("ssm.state_size"),
        mamba_num_heads=heads, mamba_head_dim=f.get("ssm.inner_size") // heads, n_groups=f.get("ssm.group_count"),
        conv_kernel=f.get("ssm.conv_kernel"), layer_norm_epsilon=f.get("attention.layer_norm_rms_epsilon"),
        time_step_min=1e-30, **more))


def granite_hybrid(f):
    kinds = ["attention" if heads else "mamba" for heads in f.get("attention.head_count_kv")]
    heads, inner, ff = f.get("ssm.time_step_rank"), f.get("ssm.inner_size"), f.get("feed_forward_length")
    return transformers.GraniteMoeHybridForCausalLM(transformers.GraniteMoeHybridConfig(
        **base(f), num_hidden_layers=len(kinds), layer_types=kinds, num_local_experts=f.get("expert_count", 0),
        num_experts_per_tok=f.get("expert_used_count", 0), intermediate_size=ff,
        shared_intermediate_size=f.get("expert_shared_feed_forward_length", ff),
        rms_norm_eps=f.get("attention.layer_norm_rms_epsilon"), mamba_n_heads=heads, mamba_d_head=inner // heads,
        mamba_n_groups=f.get("ssm.group_count"), mamba_d_state=f.get("ssm.state_size"),
        mamba_d_conv=f.get("ssm.conv_kernel"), mamba_expand=inner // f.get("embedding_length"),
        position_embedding_type="rope" if f.get("rope.scaling.finetuned") else "nope",
        embedding_multiplier=f.get("embedding_scale"), residual_multiplier=f.get("residual_scale"),
        logits_scaling=f.get("logit_scale"), attention_multiplier=f.get("attention.scale")))


MODELS = {"lfm2": lfm2, "qwen35": qwen35, "nemotron_h": nemotron_h, "granitehybrid": granite_hybrid,
          "lfm2moe": lfm2moe, "qwen35moe": qwen35moe, "qwen3next": qwen3next, "nemotron_h_moe": nemotron_h_moe}

# transformers' name behind the layer → the file's.
NAMES = {
    "lfm2": {
        "operator_norm.weight": "attn_norm.weight", "ffn_norm.weight": "ffn_norm.weight",
        "feed_forward.w1.weight": "ffn_gate.weight", "feed_forward.w3.weight": "ffn_up.weight",
        "feed_forward.w2.weight": "ffn_down.weight", "conv.conv.weight": "shortconv.conv.weight",
        "conv.in_proj.weight": "shortconv.in_proj.weight", "conv.out_proj.weight": "shortconv.out_proj.weight",
        "self_attn.q_proj.weight": "attn_q.weight", "self_attn.k_proj.weight": "attn_k.weight",
        "self_attn.v_proj.weight": "attn_v.weight", "self_attn.out_proj.weight": "attn_output.weight",
        "self_attn.q_layernorm.weight": "attn_q_norm.weight", "self_attn.k_layernorm.weight": "attn_k_norm.weight"},
    "qwen35": {
        "input_layernorm.weight": "attn_norm.weight", "post_attention_layernorm.weight": "post_attention_norm.weight",
        "self_attn.q_proj.weight": "attn_q.weight", "self_attn.k_proj.weight": "attn_k.weight",
        "self_attn.v_proj.weight": "attn_v.weight", "self_attn.o_proj.weight": "attn_output.weight",
        "self_attn.q_norm.weight": "attn_q_norm.weight", "self_attn.k_norm.weight": "attn_k_norm.weight",
        "linear_attn.dt_bias": "ssm_dt.bias", "linear_attn.A_log": "ssm_a", "linear_attn.norm.weight": "ssm_norm.weight",
        "linear_attn.conv1d.weight": "ssm_conv1d.weight", "linear_attn.out_proj.weight": "ssm_out.weight",
        "linear_attn.in_proj_qkv.weight": "attn_qkv.weight", "linear_attn.in_proj_z.weight": "attn_gate.weight",
        "linear_attn.in_proj_b.weight": "ssm_beta.weight", "linear_attn.in_proj_a.weight": "ssm_alpha.weight",
        "mlp.gate_proj.weight": "ffn_gate.weight", "mlp.up_proj.weight": "ffn_up.weight",
        "mlp.down_proj.weight": "ffn_down.weight"},
    "nemotron_h": {
        "norm.weight": "attn_norm.weight", "mixer.q_proj.weight": "attn_q.weight", "mixer.k_proj.weight": "attn_k.weight",
        "mixer.v_proj.weight": "attn_v.weight", "mixer.o_proj.weight": "attn_output.weight",
        "mixer.in_proj.weight": "ssm_in.weight", "mixer.out_proj.weight": "ssm_out.weight",
        "mixer.conv1d.weight": "ssm_conv1d.weight", "mixer.conv1d.bias": "ssm_conv1d.bias",
        "mixer.dt_bias": "ssm_dt.bias", "mixer.A_log": "ssm_a", "mixer.D": "ssm_d",
        "mixer.norm.weight": "ssm_norm.weight", "mixer.up_proj.weight": "ffn_up.weight",
        "mixer.down_proj.weight": "ffn_down.weight"},
    # Rows of Q and K are in another order in files, the same for both, which changes nothing where nothing is turned.
    "granitehybrid": {
        "input_layernorm.weight": "attn_norm.weight", "post_attention_layernorm.weight": "ffn_norm.weight",
        "self_attn.q_proj.weight": "attn_q.weight", "self_attn.k_proj.weight": "attn_k.weight",
        "self_attn.v_proj.weight": "attn_v.weight", "self_attn.o_proj.weight": "attn_output.weight",
        "mamba.in_proj.weight": "ssm_in.weight", "mamba.out_proj.weight": "ssm_out.weight",
        "mamba.conv1d.weight": "ssm_conv1d.weight", "mamba.conv1d.bias": "ssm_conv1d.bias",
        "mamba.dt_bias": "ssm_dt.bias", "mamba.A_log": "ssm_a", "mamba.D": "ssm_d", "mamba.norm.weight": "ssm_norm.weight",
    },
}
NAMES["lfm2moe"] = dict(NAMES["lfm2"], **{
    "feed_forward.gate.weight": "ffn_gate_inp.weight", "feed_forward.expert_bias": "exp_probs_b.bias"})
NAMES["qwen35moe"] = dict(NAMES["qwen35"], **{
    "mlp.gate.weight": "ffn_gate_inp.weight", "mlp.shared_expert_gate.weight": "ffn_gate_inp_shexp.weight",
    "mlp.shared_expert.gate_proj.weight": "ffn_gate_shexp.weight",
    "mlp.shared_expert.up_proj.weight": "ffn_up_shexp.weight",
    "mlp.shared_expert.down_proj.weight": "ffn_down_shexp.weight"})
NAMES["qwen3next"] = dict(NAMES["qwen35moe"], **{
    "linear_attn.dt_bias": "ssm_dt", "linear_attn.in_proj_ba.weight": "ssm_ba.weight"})
NAMES["nemotron_h_moe"] = dict(NAMES["nemotron_h"], **{
    "mixer.gate.weight": "ffn_gate_inp.weight", "mixer.gate.e_score_correction_bias": "exp_probs_b.bias",
    "mixer.fc1_latent_proj.weight": "ffn_latent_down.weight", "mixer.fc2_latent_proj.weight": "ffn_latent_up.weight",
    "mixer.experts.up_proj": "ffn_up_exps.weight", "mixer.experts.down_proj": "ffn_down_exps.weight",
    "mixer.shared_experts.up_proj.weight": "ffn_up_shexp.weight",
    "mixer.shared_experts.down_proj.weight": "ffn_down_shexp.weight"})
NAMES["granitehybrid"]["block_sparse_moe.router.weight"] = "ffn_gate_inp.weight"
ENDS = {
    "model.embed_tokens.weight": "token_embd.weight", "model.embeddings.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight", "model.norm_f.weight": "output_norm.weight",
    "model.embedding_norm.weight": "token_embd_norm.weight", "lm_head.weight": "output.weight",
}


def untile(f, weight, name, layer_name):
    """Puts heads of values that share a key side by side again, which files of Qwen3.5 have group_count apart."""
    heads, groups = f.get("ssm.time_step_rank"), f.get("ssm.group_count")
    inner, keys = f.get("ssm.inner_size"), 2 * groups * f.get("ssm.state_size")

    def order(part, dim=0):
        shape = part.shape
        split = shape[:dim] + (heads // groups, groups, -1) + shape[dim + 1:]
        return part.reshape(split).transpose(dim, dim + 1).reshape(shape)

    if name in ("attn_qkv.weight", "ssm_conv1d.weight"):
        assert weight.shape[0] == keys + inner
        return torch.cat([weight[:keys], order(weight[keys:])])
    if name in ("attn_gate.weight", "ssm_beta.weight", "ssm_alpha.weight", "ssm_dt.bias", "ssm_a"):
        return order(weight)
    return order(weight, 1) if name == "ssm_out.weight" else weight


def regroup(f, block):
    """The rows of queries, keys, values and gates of the heads that share a key, beside each other as Qwen3-Next has
    them."""
    groups, keys, values = f.get("ssm.group_count"), f.get("ssm.state_size"), f.get("ssm.inner_size")
    qkv, z = f.take(block + "attn_qkv.weight"), f.take(block + "attn_gate.weight")
    parts = qkv.split([groups * keys, groups * keys, values])
    return torch.cat([p.reshape(groups, len(p) // groups, -1) for p in (*parts, z)], dim=1).reshape(-1, qkv.shape[1])


def fused(f, block, names):
    return torch.cat([f.take(block + name) for name in names], dim=-2)


def special(f, block, name):
    """What is one parameter in transformers and several tensors in a file; None for anything else."""
    if name == "linear_attn.in_proj_qkvz.weight":
        return f.take(block + "ssm_in.weight") if block + "ssm_in.weight" in f.tensors else regroup(f, block)
    if name == "linear_attn.dt_bias" and f.arch == "qwen3next":
        return f.take(block + ("ssm_dt" if block + "ssm_dt" in f.tensors else "ssm_dt.bias"))
    if re.search(r"experts\.gate_up_proj$", name):
        if block + "ffn_gate_up_exps.weight" in f.tensors:
            return f.take(block + "ffn_gate_up_exps.weight")
        return fused(f, block, ["ffn_gate_exps.weight", "ffn_up_exps.weight"])
    if re.search(r"experts\.down_proj$", name) or name == "shared_mlp.output_linear.weight":
        kinds = ("ffn_down_exps.weight",) if "experts" in name else ("ffn_down_shexp.weight", "ffn_down.weight")
        return f.take(block + next(kind for kind in kinds if block + kind in f.tensors))
    if name == "shared_mlp.input_linear.weight":
        shared = "_shexp" if block + "ffn_gate_shexp.weight" in f.tensors else ""
        return fused(f, block, [f"ffn_gate{shared}.weight", f"ffn_up{shared}.weight"])
    return None


def weight_of(f, name, value):
    part = re.fullmatch(r"model\.layers\.(\d+)\.(.*)", name)
    if not part:
        file_name = ENDS[name]
        if file_name not in f.tensors:  # a tied head
            file_name = "token_embd.weight"
        weight = f.take(file_name)
    elif (found := special(f, f"blk.{part[1]}.", part[2])) is not None:
        weight = found
    else:
        layer_name = NAMES[f.arch][part[2]]
        weight = f.take(f"blk.{part[1]}.{layer_name}")
        if f.arch.startswith("qwen35"):
            weight = untile(f, weight, layer_name, part[2])
        if name.endswith("A_log"):
            weight = (-weight).log()
    if f.arch.startswith("qwen3") and "norm" in name and "linear_attn.norm" not in name:
        weight = weight - 1
    return weight.reshape(value.shape)
