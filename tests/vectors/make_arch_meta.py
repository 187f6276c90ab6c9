"""Llama 4 and Muse Glimmer, for make_arch.py: configurations, and where transformers' parameters are in a file."""
import re

import torch
from transformers import Llama4ForCausalLM, Llama4TextConfig
from transformers.models.muse_glimmer.configuration_muse_glimmer import MuseGlimmerConfig, MuseGlimmerTextConfig
from transformers.models.muse_glimmer.modeling_muse_glimmer import MuseGlimmerForConditionalGeneration


def base(f):
    return dict(vocab_size=f.tensors["token_embd.weight"].shape[0], hidden_size=f.get("embedding_length"),
                num_hidden_layers=f.get("block_count"), num_attention_heads=f.get("attention.head_count"),
                num_key_value_heads=f.get("attention.head_count_kv"), head_dim=f.get("attention.key_length"),
                max_position_embeddings=f.get("context_length"),
                rms_norm_eps=f.get("attention.layer_norm_rms_epsilon"), tie_word_embeddings=False,
                bos_token_id=0, eos_token_id=0, pad_token_id=0, attn_implementation="eager")


def llama4(f):
    rope = {"rope_type": "default", "rope_theta": f.get("rope.freq_base")}
    if "rope_freqs.weight" in f.tensors:  # how it was made is not in the file: tests/support/arch_models.c
        f.take("rope_freqs.weight")
        rope.update(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                    original_max_position_embeddings=64)
    return Llama4ForCausalLM(Llama4TextConfig(
        **base(f), rope_parameters=rope, intermediate_size=f.get("expert_feed_forward_length"),
        intermediate_size_mlp=f.get("feed_forward_length"), num_experts_per_tok=f.get("expert_used_count"),
        num_local_experts=f.get("expert_count"), interleave_moe_layer_step=f.get("interleave_moe_layer_step"),
        use_qk_norm=f.get("expert_count") != 128, attention_chunk_size=f.get("attention.sliding_window"),
        attn_temperature_tuning=True, floor_scale=f.get("attention.temperature_length"), attn_scale=0.1))


class Text(torch.nn.Module):
    """Muse Glimmer without its vision model, which takes pictures alone."""

    def __init__(self, config):
        super().__init__()
        self.whole = MuseGlimmerForConditionalGeneration(config)

    def forward(self, tokens):
        return self.whole(input_ids=tokens, attention_mask=torch.ones_like(tokens))

    def state_dict(self):
        return {name: value for name, value in self.whole.state_dict().items()
                if name.startswith(("model.language_model.", "lm_head."))}

    def load_state_dict(self, state):
        self.whole.load_state_dict(state, strict=False)


def muse_glimmer(f):
    windows = f.get("attention.sliding_window_pattern")
    norms = [f.take(f"blk.{i}.attn_{name}_norm.weight") for i in range(f.get("block_count")) for name in "qk"]
    assert all((norm == norm[0]).all() for norm in norms) and all((norm == 1).all() for norm in norms[1::2])
    theta = f.get("rope.freq_base")
    text = MuseGlimmerTextConfig(
        **base(f), intermediate_size=f.get("feed_forward_length"), sliding_window=f.get("attention.sliding_window"),
        layer_types=["sliding_attention" if window else "full_attention" for window in windows],
        layer_rope_theta=[theta if window else 0 for window in windows],
        rope_parameters={"rope_type": "default", "rope_theta": theta}, qk_scale_factor=norms[0][0].item(),
        output_multiplier=f.get("logit_scale"), final_logit_softcapping=f.get("final_logit_softcapping"))
    vision = dict(num_hidden_layers=1, hidden_size=16, intermediate_size=16, num_attention_heads=2, pos_emb_height=2,
                  pos_emb_width=2)
    return Text(MuseGlimmerConfig(text_config=text, vision_config=vision, image_token_id=1000, video_token_id=1001,
                                  out_hidden_size=64, projector_hidden_size=16, attn_implementation="eager"))


MODELS = {"llama4": llama4, "muse-glimmer": muse_glimmer}

ENDS = {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}
NAMES = {
    "input_layernorm.weight": "attn_norm.weight", "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight", "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight", "self_attn.gate_proj.weight": "attn_gate.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight", "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight", "pre_feedforward_layernorm.weight": "ffn_norm.weight",
    "post_feedforward_layernorm.weight": "post_ffw_norm.weight",
    "feed_forward.router.weight": "ffn_gate_inp.weight",
    **{f"feed_forward.{shared}{name}_proj.weight": f"ffn_{name}{'_shexp' if shared else ''}.weight"
       for shared in ("", "shared_expert.") for name in ("gate", "up", "down")},
}


def weight_of(f, name, value):
    if name == "lm_head.weight":
        return f.take("output.weight")
    name = re.sub(r"^model\.(language_model\.)?", "", name)
    if name in ENDS:
        return f.take(ENDS[name])
    layer, rest = re.fullmatch(r"layers\.(\d+)\.(.*)", name).groups()
    block = f"blk.{layer}."
    if rest == "post_attention_layernorm.weight":
        file_name = "ffn_norm.weight" if f.arch == "llama4" else "post_attention_norm.weight"
    elif rest == "feed_forward.experts.gate_up_proj":
        return torch.cat([f.take(block + "ffn_gate_exps.weight"), f.take(block + "ffn_up_exps.weight")], dim=1).swapaxes(1, 2)
    elif rest == "feed_forward.experts.down_proj":
        return f.take(block + "ffn_down_exps.weight").swapaxes(1, 2)
    else:
        file_name = NAMES[rest]
    weight = f.take(block + file_name)
    if f.arch == "muse-glimmer" and "layernorm" in rest:
        return weight - 1
    if f.arch == "muse-glimmer" and file_name in ("attn_q.weight", "attn_k.weight"):  # rows in Llama's order
        head = f.get("attention.key_length")
        return weight.reshape(len(weight) // head, head // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)
    return weight
