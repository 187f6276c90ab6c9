"""Models with layers that keep a state, for make_arch.py: their configurations, and where transformers' parameters are in
a file."""
import re

import torch
import transformers
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


def lfm2(f):
    kinds = ["full_attention" if heads else "conv" for heads in f.get("attention.head_count_kv")]
    return transformers.Lfm2ForCausalLM(transformers.Lfm2Config(
        **base(f), num_hidden_layers=len(kinds), layer_types=kinds, intermediate_size=f.get("feed_forward_length"),
        norm_eps=f.get("attention.layer_norm_rms_epsilon"), conv_L_cache=f.get("shortconv.l_cache"),
        block_auto_adjust_ff_dim=False, rope_parameters={"rope_type": "default", "rope_theta": f.get("rope.freq_base")}))


def qwen_next(f):
    """What Qwen3-Next and Qwen3.5 call alike."""
    head_dim, heads = f.get("attention.key_length"), f.get("ssm.time_step_rank")
    return dict(**base(f), num_hidden_layers=f.get("block_count"), head_dim=head_dim,
                intermediate_size=f.get("feed_forward_length"), rms_norm_eps=f.get("attention.layer_norm_rms_epsilon"),
                layer_types=["linear_attention" if (i + 1) % f.get("full_attention_interval") else "full_attention"
                             for i in range(f.get("block_count"))],
                rope_parameters={"rope_type": "default", "rope_theta": f.get("rope.freq_base"),
                                 "partial_rotary_factor": f.get("rope.dimension_count") / head_dim},
                linear_conv_kernel_dim=f.get("ssm.conv_kernel"), linear_key_head_dim=f.get("ssm.state_size"),
                linear_value_head_dim=f.get("ssm.inner_size") // heads, linear_num_value_heads=heads,
                linear_num_key_heads=f.get("ssm.group_count"))


def qwen35(f):
    config = qwen_next(f)
    half = f.get("rope.dimension_count") // 2
    config["rope_parameters"].update(mrope_section=[half - 2, 1, 1], mrope_interleaved=True)
    return Qwen3_5ForCausalLM(Qwen3_5TextConfig(**config))


def nemotron_h(f):
    kinds = []
    for heads, ff in zip(f.get("attention.head_count_kv"), f.get("feed_forward_length")):
        kinds.append("full_attention" if heads else "mlp" if ff else "linear_attention")
    heads = f.get("ssm.time_step_rank")
    # time_step_min bounds dt from below in transformers alone: the kernels that models are run with do not.
    return transformers.NemotronHForCausalLM(transformers.NemotronHConfig(
        **base(f), layers_block_type=kinds, head_dim=f.get("attention.key_length"),
        intermediate_size=max(f.get("feed_forward_length")), ssm_state_size=f.get("ssm.state_size"),
        mamba_num_heads=heads, mamba_head_dim=f.get("ssm.inner_size") // heads, n_groups=f.get("ssm.group_count"),
        conv_kernel=f.get("ssm.conv_kernel"), layer_norm_epsilon=f.get("attention.layer_norm_rms_epsilon"),
        time_step_min=1e-30))


def granite_hybrid(f):
    kinds = ["attention" if heads else "mamba" for heads in f.get("attention.head_count_kv")]
    heads, inner = f.get("ssm.time_step_rank"), f.get("ssm.inner_size")
    return transformers.GraniteMoeHybridForCausalLM(transformers.GraniteMoeHybridConfig(
        **base(f), num_hidden_layers=len(kinds), layer_types=kinds, num_local_experts=0,
        intermediate_size=f.get("feed_forward_length"), shared_intermediate_size=f.get("feed_forward_length"),
        rms_norm_eps=f.get("attention.layer_norm_rms_epsilon"), mamba_n_heads=heads, mamba_d_head=inner // heads,
        mamba_n_groups=f.get("ssm.group_count"), mamba_d_state=f.get("ssm.state_size"),
        mamba_d_conv=f.get("ssm.conv_kernel"), mamba_expand=inner // f.get("embedding_length"),
        position_embedding_type="rope" if f.get("rope.scaling.finetuned") else "nope",
        embedding_multiplier=f.get("embedding_scale"), residual_multiplier=f.get("residual_scale"),
        logits_scaling=f.get("logit_scale"), attention_multiplier=f.get("attention.scale")))


MODELS = {"lfm2": lfm2, "qwen35": qwen35, "nemotron_h": nemotron_h, "granitehybrid": granite_hybrid}

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
        "shared_mlp.output_linear.weight": "ffn_down.weight"},
}
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


def weight_of(f, name, value):
    part = re.fullmatch(r"model\.layers\.(\d+)\.(.*)", name)
    if not part:
        file_name = ENDS[name]
        if file_name not in f.tensors:  # a tied head
            file_name = "token_embd.weight"
        weight = f.take(file_name)
    elif part[2] == "shared_mlp.input_linear.weight":
        weight = torch.cat([f.take(f"blk.{part[1]}.ffn_gate.weight"), f.take(f"blk.{part[1]}.ffn_up.weight")])
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
