"""Gemma 4 and Gemma 3n, for make_arch.py: configurations, and where transformers' parameters are in a file."""
import math
import re

import torch
from transformers.models.gemma3n.configuration_gemma3n import Gemma3nTextConfig
from transformers.models.gemma3n.modeling_gemma3n import Gemma3nForCausalLM
from transformers.models.gemma4.configuration_gemma4 import Gemma4TextConfig
from transformers.models.gemma4.modeling_gemma4 import Gemma4ForCausalLM


def gemma4(f):
    n_layers, ff, kv_heads = f.get("block_count"), f.get("feed_forward_length"), f.get("attention.head_count_kv")
    windows = f.get("attention.sliding_window_pattern")
    keys_are_values = any(f"blk.{i}.attn_k.weight" in f.tensors and f"blk.{i}.attn_v.weight" not in f.tensors
                          for i in range(n_layers))
    factors = f.take("rope_freqs.weight")
    config = Gemma4TextConfig(
        vocab_size=f.tensors["token_embd.weight"].shape[0], vocab_size_per_layer_input=f.tensors["token_embd.weight"].shape[0],
        hidden_size=f.get("embedding_length"), intermediate_size=ff[0] if isinstance(ff, list) else ff,
        use_double_wide_mlp=isinstance(ff, list), num_hidden_layers=n_layers,
        num_attention_heads=f.get("attention.head_count"),
        num_key_value_heads=kv_heads[0] if isinstance(kv_heads, list) else kv_heads,
        num_global_key_value_heads=kv_heads[-1] if isinstance(kv_heads, list) else None,
        head_dim=f.get("attention.key_length_swa"), global_head_dim=f.get("attention.key_length"),
        max_position_embeddings=f.get("context_length"), rms_norm_eps=f.get("attention.layer_norm_rms_epsilon"),
        layer_types=["sliding_attention" if window else "full_attention" for window in windows],
        sliding_window=f.get("attention.sliding_window"), final_logit_softcapping=f.get("final_logit_softcapping"),
        hidden_size_per_layer_input=f.get("embedding_length_per_layer_input", 0), attention_k_eq_v=keys_are_values,
        num_kv_shared_layers=f.get("attention.shared_kv_layers", 0), enable_moe_block=bool(f.get("expert_count")),
        num_experts=f.get("expert_count"), top_k_experts=f.get("expert_used_count"),
        moe_intermediate_size=f.get("expert_feed_forward_length"), bos_token_id=0, eos_token_id=0, pad_token_id=0,
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": f.get("rope.freq_base_swa")},
            "full_attention": {"rope_type": "proportional", "rope_theta": f.get("rope.freq_base"),
                               "partial_rotary_factor": (factors == 1).sum().item() / len(factors)}},
        attn_implementation="eager", experts_implementation="eager")
    return Gemma4ForCausalLM(config)


def gemma3n(f):
    n_layers, vocab = f.get("block_count"), f.tensors["token_embd.weight"].shape[0]
    # The file has numbers of standard deviations; transformers takes the share that is below them.
    shares = [0.5 * (1 + math.erf(scale / math.sqrt(2))) for scale in f.get("activation_sparsity_scale")]
    return Gemma3nForCausalLM(Gemma3nTextConfig(
        vocab_size=vocab, vocab_size_per_layer_input=vocab, hidden_size=f.get("embedding_length"),
        hidden_size_per_layer_input=f.get("embedding_length_per_layer_input"),
        intermediate_size=f.get("feed_forward_length"), num_hidden_layers=n_layers,
        num_attention_heads=f.get("attention.head_count"), num_key_value_heads=f.get("attention.head_count_kv"),
        head_dim=f.get("attention.key_length"), max_position_embeddings=f.get("context_length"),
        rms_norm_eps=f.get("attention.layer_norm_rms_epsilon"), sliding_window=f.get("attention.sliding_window"),
        layer_types=["sliding_attention" if window else "full_attention"
                     for window in f.get("attention.sliding_window_pattern")],
        final_logit_softcapping=f.get("final_logit_softcapping"), activation_sparsity_pattern=shares,
        altup_num_inputs=f.get("altup.num_inputs"), altup_active_idx=f.get("altup.active_idx"), altup_correct_scale=True,
        num_kv_shared_layers=int(f.get("attention.shared_kv_layers")), laurel_rank=64,
        bos_token_id=0, eos_token_id=0, pad_token_id=0,
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": f.get("rope.freq_base_swa")},
            "full_attention": {"rope_type": "default", "rope_theta": f.get("rope.freq_base")}},
        attn_implementation="eager"))


MODELS = {"gemma4": gemma4, "gemma3n": gemma3n}
# Scores without a scale make rounding grow: float32 leaves up to 3e-6 of the logits.
PRECISION = torch.float64

NAMES = {
    "model.embed_tokens.weight": "token_embd.weight", "lm_head.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "model.embed_tokens_per_layer.weight": "per_layer_token_embd.weight",
    "model.per_layer_model_projection.weight": "per_layer_model_proj.weight",
    "model.per_layer_projection_norm.weight": "per_layer_proj_norm.weight",
}
NAMES_OF_LAYERS = {
    "input_layernorm.weight": "attn_norm.weight", "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight", "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight", "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight", "post_attention_layernorm.weight": "post_attention_norm.weight",
    "pre_feedforward_layernorm.weight": "ffn_norm.weight", "post_feedforward_layernorm.weight": "post_ffw_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight", "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight", "layer_scalar": "layer_output_scale.weight",
    "per_layer_input_gate.weight": "inp_gate.weight", "per_layer_projection.weight": "proj.weight",
    "post_per_layer_input_norm.weight": "post_norm.weight", "router.proj.weight": "ffn_gate_inp.weight",
    "router.scale": "ffn_gate_inp.scale", "router.per_expert_scale": "ffn_down_exps.scale",
    "experts.gate_up_proj": "ffn_gate_up_exps.weight", "experts.down_proj": "ffn_down_exps.weight",
    "post_feedforward_layernorm_1.weight": "post_ffw_norm_1.weight",
    "post_feedforward_layernorm_2.weight": "post_ffw_norm_2.weight",
    "pre_feedforward_layernorm_2.weight": "pre_ffw_norm_2.weight",
    "altup.correct_output_scale": "altup_correct_scale.weight", "altup.correction_coefs.weight": "altup_correct_coef.weight",
    "altup.prediction_coefs.weight": "altup_predict_coef.weight", "altup.modality_router.weight": "altup_router.weight",
    "altup.router_norm.weight": "altup_router_norm.weight", "laurel.linear_left.weight": "laurel_l.weight",
    "laurel.linear_right.weight": "laurel_r.weight", "laurel.post_laurel_norm.weight": "laurel_post_norm.weight",
}


def weight_of(f, name, value):
    if name in NAMES:
        return f.take(NAMES[name])
    if part := re.fullmatch(r"model\.altup_(unembed_)?projections\.(\d+)\.weight", name):
        return f.take("altup_unembd_proj.weight" if part[1] else "altup_proj.weight")[int(part[2])]
    layer, rest = re.fullmatch(r"model\.layers\.(\d+)\.(.*)", name).groups()
    return f.take(f"blk.{layer}.{NAMES_OF_LAYERS[rest]}")
