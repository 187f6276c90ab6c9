"""Logits of the tiny models of tests/support/arch_models.c, as Hugging Face transformers computes them in float32 (Gemma 4:
float64).

    make_arch.py MODELS_FOLDER OUT_FOLDER [NAME...]

MODELS_FOLDER holds the files that tests/tools/write_arch_models.c writes. Each is read with the gguf package, its
tensors are dequantised with it, put under the names that transformers uses (the gguf package's own map of names, turned
round), and run on the tokens in the file's key "test.tokens". OUT_FOLDER gets NAME.bin: the logits, float32,
little-endian, [tokens][vocabulary]; of the architectures in FAMILY those of every eighth token, from the eighth on; of longer texts of every sixteenth.
"""
import os
import re
import sys

import gguf
import numpy as np
import torch
import transformers

import make_arch_gemma
import make_arch_meta
import make_arch_states


class File:
    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.values = {name: field.contents() for name, field in reader.fields.items()}
        self.arch = self.values["general.architecture"]
        self.tensors = {t.name: torch.tensor(np.array(gguf.dequantize(t.data, t.tensor_type), dtype=np.float32))
                        for t in reader.tensors}
        if self.arch == "gptoss":  # Ollama's names
            self.arch = "gpt-oss"
            self.values = {key.replace("gptoss.", "gpt-oss."): value for key, value in self.values.items()}
            self.values["gpt-oss.rope.scaling.type"] = "yarn"
            self.tensors = {re.sub("attn_sinks$", "attn_sinks.weight", name.replace("attn_out.", "attn_output.").replace(
                "ffn_norm", "post_attention_norm")): value for name, value in self.tensors.items()}
        self.unread = set(self.tensors)

    def get(self, key, default=None):
        return self.values.get(f"{self.arch}.{key}", default)

    def take(self, name):
        self.unread.discard(name)
        return self.tensors[name]


def of_layer(value, layer):
    """Numbers of layers may be an array."""
    return value[layer] if isinstance(value, list) else value


def common(f, layer=0):
    """What most configurations call alike."""
    heads = of_layer(f.get("attention.head_count"), layer)
    head_dim = f.get("attention.key_length", f.get("embedding_length") // heads)
    return dict(vocab_size=f.tensors["token_embd.weight"].shape[0], hidden_size=f.get("embedding_length"),
                intermediate_size=of_layer(f.get("feed_forward_length"), layer),
                num_hidden_layers=f.get("block_count"), num_attention_heads=heads, head_dim=head_dim,
                num_key_value_heads=of_layer(f.get("attention.head_count_kv"), layer),
                max_position_embeddings=f.get("context_length"),
                rms_norm_eps=f.get("attention.layer_norm_rms_epsilon"),
                tie_word_embeddings="output.weight" not in f.tensors, bos_token_id=0, eos_token_id=0, pad_token_id=0,
                attn_implementation="eager")


def rope(f):
    """Parameters of the rotary embedding, with the defaults of the GGUF keys."""
    out = {"rope_type": f.get("rope.scaling.type", "default"), "rope_theta": f.get("rope.freq_base", 10000.0)}
    if out["rope_type"] in ("linear", "yarn"):
        out["factor"] = f.get("rope.scaling.factor")
    if out["rope_type"] == "yarn":
        out.update(original_max_position_embeddings=f.get("rope.scaling.original_context_length"),
                   beta_fast=f.get("rope.scaling.yarn_beta_fast", 32.0), beta_slow=1.0)
    if "rope_freqs.weight" in f.tensors:  # how it was made is not in the file: tests/support/arch_models.c
        f.take("rope_freqs.weight")
        out.update(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                   original_max_position_embeddings=64)
    return out


def llama(f):
    base = common(f)
    window = f.get("attention.sliding_window")
    if f.get("expert_count"):
        return transformers.MixtralForCausalLM(transformers.MixtralConfig(
            **base, sliding_window=None, rope_parameters=rope(f), num_local_experts=f.get("expert_count"),
            num_experts_per_tok=f.get("expert_used_count")))
    if window:
        return transformers.MistralForCausalLM(transformers.MistralConfig(
            **base, sliding_window=window, rope_parameters=rope(f)))
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**base, rope_parameters=rope(f)))
    if isinstance(f.get("attention.head_count"), list):  # each layer as one of a model with its numbers
        for i in range(f.get("block_count")):
            config = transformers.LlamaConfig(**common(f, i), rope_parameters=rope(f))
            model.model.layers[i] = type(model.model.layers[i])(config, i)
    return model


def qwen2(f):
    return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**common(f), rope_parameters=rope(f)))


def qwen3(f):
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**common(f), rope_parameters=rope(f)))


def qwen3moe(f):
    return transformers.Qwen3MoeForCausalLM(transformers.Qwen3MoeConfig(
        **common(f), rope_parameters=rope(f), num_experts=f.get("expert_count"), norm_topk_prob=True,
        num_experts_per_tok=f.get("expert_used_count"), moe_intermediate_size=f.get("expert_feed_forward_length"),
        mlp_only_layers=list(range(f.get("leading_dense_block_count", 0)))))


def phi3(f):
    base, parameters = common(f), rope(f)
    head_dim = base.pop("head_dim")
    original = f.get("rope.scaling.original_context_length", f.get("context_length"))
    parameters["partial_rotary_factor"] = f.get("rope.dimension_count", head_dim) / head_dim
    if "rope_factors_long.weight" in f.tensors:
        parameters.update(rope_type="longrope", long_factor=f.take("rope_factors_long.weight").tolist(),
                          short_factor=f.take("rope_factors_short.weight").tolist(),
                          original_max_position_embeddings=original)
    return transformers.Phi3ForCausalLM(transformers.Phi3Config(
        **base, sliding_window=f.get("attention.sliding_window"), original_max_position_embeddings=original,
        rope_parameters=parameters))


def gemma(f):
    return transformers.GemmaForCausalLM(transformers.GemmaConfig(**common(f), rope_parameters=rope(f)))


def gemma2(f):
    base = common(f)
    return transformers.Gemma2ForCausalLM(transformers.Gemma2Config(
        **base, query_pre_attn_scalar=base["head_dim"], sliding_window=f.get("attention.sliding_window", 4096),
        attn_logit_softcapping=f.get("attn_logit_softcapping", 50.0), rope_parameters=rope(f),
        final_logit_softcapping=f.get("final_logit_softcapping", 30.0)))


class RotaryOfKind(torch.nn.Module):
    """Angles of heads that are of another width in layers with a window."""

    def __init__(self, full, sliding):
        super().__init__()
        self.full, self.sliding = full, sliding

    def forward(self, x, positions, kind):
        return (self.sliding if kind == "sliding_attention" else self.full)(x, positions, kind)


def gemma3(f):
    base, full = common(f), rope(f)
    period, n_layers = f.get("attention.sliding_window_pattern", 6), f.get("block_count")
    if not isinstance(period, list):
        period = [i % period != period - 1 for i in range(n_layers)]
    types = ["sliding_attention" if window else "full_attention" for window in period]
    local = {"rope_type": "default", "rope_theta": f.get("rope.freq_base_swa", 10000.0)}

    def model_of(head_dim):
        return transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(
            **dict(base, head_dim=head_dim), query_pre_attn_scalar=head_dim,
            sliding_window=f.get("attention.sliding_window"), layer_types=types,
            rope_parameters={"full_attention": full, "sliding_attention": local}))

    model, narrow = model_of(base["head_dim"]), f.get("attention.key_length_swa", base["head_dim"])
    if narrow != base["head_dim"]:  # layers with a window as those of a model with such heads
        other = model_of(narrow)
        for i, window in enumerate(period):
            if window:
                model.model.layers[i] = other.model.layers[i]
        model.model.rotary_emb = RotaryOfKind(model.model.rotary_emb, other.model.rotary_emb)
    return model


def gpt_oss(f):
    return transformers.GptOssForCausalLM(transformers.GptOssConfig(
        **common(f), num_local_experts=f.get("expert_count"), num_experts_per_tok=f.get("expert_used_count"),
        sliding_window=f.get("attention.sliding_window"), rope_parameters=dict(rope(f), truncate=False)))


def gpt2(f):
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=f.tensors["token_embd.weight"].shape[0], n_positions=f.get("context_length"),
        n_embd=f.get("embedding_length"), n_layer=f.get("block_count"), n_head=f.get("attention.head_count"),
        n_inner=f.get("feed_forward_length"), layer_norm_epsilon=f.get("attention.layer_norm_epsilon"),
        bos_token_id=0, eos_token_id=0, attn_implementation="eager"))


def causal(name, config, **more):
    """transformers' class NAMEForCausalLM with NAMEConfig."""
    return getattr(transformers, name + "ForCausalLM")(getattr(transformers, name + "Config")(**config, **more))


def smollm3(f):
    return causal("SmolLM3", common(f), rope_parameters=rope(f), use_sliding_window=False,
                  no_rope_layers=[int((i + 1) % 4 != 0) for i in range(f.get("block_count"))])


def seed_oss(f):
    return causal("SeedOss", common(f), rope_parameters=rope(f), attention_bias=True, attention_out_bias=False)


def granite(f):
    """MiniCPM, which transformers does not have, is Granite with the usual scale of scores."""
    base = common(f)
    return causal("Granite", base, rope_parameters=rope(f), embedding_multiplier=f.get("embedding_scale"),
                  residual_multiplier=f.get("residual_scale"), logits_scaling=f.get("logit_scale"),
                  attention_multiplier=f.get("attention.scale", base["head_dim"] ** -0.5))


def mistral3(f):
    parameters = dict(rope(f), mscale=1.0, mscale_all_dim=f.get("rope.scaling.yarn_log_multiplier"),
                      llama_4_scaling_beta=f.get("attention.temperature_scale"))
    return causal("Ministral3", common(f), rope_parameters=parameters, sliding_window=None)


def glm4(f):
    base = common(f)
    parameters = dict(rope(f), partial_rotary_factor=f.get("rope.dimension_count") / base["head_dim"])
    return causal("Glm4", base, rope_parameters=parameters, attention_bias=True)


def arcee(f):
    return causal("Arcee", common(f), rope_parameters=rope(f), hidden_act="relu2")


def ernie4_5(f):
    return causal("Ernie4_5", common(f), rope_parameters=rope(f), use_bias=False)


def llama_by_another_name(f):
    """InternLM2 and Baichuan 7B, which transformers does not have: Llama's blocks."""
    model = causal("Llama", common(f), rope_parameters=rope(f), attention_bias="blk.0.attn_q.bias" in f.tensors)
    for layer in model.model.layers:
        layer.self_attn.o_proj.bias = None
    return model


def hunyuan_dense(f):
    return causal("HunYuanDenseV1", common(f), rope_parameters=rope(f), attention_bias=False)


def layer_norm(f):
    """What models with layer norms call alike; their own heads are as wide as they must be."""
    base = common(f)
    del base["rms_norm_eps"], base["head_dim"]
    return dict(base, layer_norm_eps=f.get("attention.layer_norm_epsilon"))


def partial_rope(f):
    head_dim = f.get("embedding_length") // f.get("attention.head_count")
    return dict(rope(f), rope_type="default", partial_rotary_factor=f.get("rope.dimension_count", head_dim) / head_dim)


def command_r(f):
    return causal("Cohere", layer_norm(f), rope_parameters=partial_rope(f), logit_scale=f.get("logit_scale"))


def cohere2(f):
    return causal("Cohere2", layer_norm(f), rope_parameters=partial_rope(f), logit_scale=f.get("logit_scale"),
                  sliding_window=f.get("attention.sliding_window"))


def phi2(f):
    return causal("Phi", layer_norm(f), rope_parameters=partial_rope(f))


def falcon(f):
    base = layer_norm(f)
    return causal("Falcon", {k: base[k] for k in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
                                                  "tie_word_embeddings", "attn_implementation")},
                  num_kv_heads=f.get("attention.head_count_kv"), new_decoder_architecture=True, bias=False,
                  num_ln_in_parallel_attn=1 + ("blk.0.attn_norm_2.weight" in f.tensors), rope_parameters=rope(f),
                  layer_norm_epsilon=base["layer_norm_eps"], max_position_embeddings=f.get("context_length"), alibi=False)


def gptneox(f):
    return causal("GPTNeoX", layer_norm(f), rope_parameters=partial_rope(f),
                  use_parallel_residual=f.get("use_parallel_residual"))


def stablelm(f):
    return causal("StableLm", layer_norm(f), rope_parameters=partial_rope(f), use_qkv_bias=True,
                  use_parallel_residual=False)


def starcoder2(f):
    base = layer_norm(f)
    return causal("Starcoder2", base, rope_parameters=rope(f), norm_epsilon=base["layer_norm_eps"], use_bias=True,
                  sliding_window=None)


def olmo2(f):
    if not f.get("attention.sliding_window"):
        return causal("Olmo2", common(f), rope_parameters=rope(f))
    unscaled = {"rope_type": "default", "rope_theta": f.get("rope.freq_base")}
    return causal("Olmo3", common(f), sliding_window=f.get("attention.sliding_window"),
                  rope_parameters={"full_attention": rope(f), "sliding_attention": unscaled})


def exaone4(f):
    window = f.get("attention.sliding_window")
    return causal("Exaone4", common(f), rope_parameters=rope(f), sliding_window=window,
                  layer_types=["sliding_attention" if window and i % 4 != 3 else "full_attention"
                               for i in range(f.get("block_count"))])


def mixture(f, **more):
    """What models with experts call alike."""
    base = common(f)
    return dict(base, rope_parameters=rope(f), num_experts_per_tok=f.get("expert_used_count"),
                moe_intermediate_size=f.get("expert_feed_forward_length", base["intermediate_size"]), **more)


def olmoe(f):
    return causal("Olmoe", mixture(f, num_experts=f.get("expert_count"), norm_topk_prob=False))


def qwen2moe(f):
    return causal("Qwen2Moe", mixture(f, num_experts=f.get("expert_count"), norm_topk_prob=False, qkv_bias=True,
                                      shared_expert_intermediate_size=f.get("expert_shared_feed_forward_length")))


def granitemoe(f):
    shared = f.get("expert_shared_feed_forward_length")
    more = {"shared_intermediate_size": shared} if shared else {}
    return causal("GraniteMoeShared" if shared else "GraniteMoe", common(f), rope_parameters=rope(f),
                  num_local_experts=f.get("expert_count"), num_experts_per_tok=f.get("expert_used_count"),
                  embedding_multiplier=f.get("embedding_scale"), residual_multiplier=f.get("residual_scale"),
                  logits_scaling=f.get("logit_scale"), attention_multiplier=f.get("attention.scale"), **more)


def leading(f, name, **more):
    width = f.get("expert_feed_forward_length")
    return causal(name, mixture(
        f, n_routed_experts=f.get("expert_count"), first_k_dense_replace=f.get("leading_dense_block_count"),
        n_shared_experts=f.get("expert_shared_feed_forward_length", f.get("expert_shared_count") * width) // width,
        norm_topk_prob=f.get("expert_weights_norm"), routed_scaling_factor=f.get("expert_weights_scale"),
        n_group=f.get("expert_group_count", 1), topk_group=f.get("expert_group_used_count", 1), **more))


def glm4moe(f):
    """Ling 2, which transformers does not have, is GLM-4.5 without biases."""
    model = leading(f, "Glm4Moe", use_qk_norm=True, attention_bias="blk.0.attn_q.bias" in f.tensors)
    model.model.rotary_emb = type(model.model.rotary_emb)(transformers.Glm4MoeConfig(
        **dict(common(f), rope_parameters=partial_rope(f))))
    return model


def dots1(f):
    return leading(f, "Dots1", layer_types=["full_attention"] * f.get("block_count"))


def ernie4_5_moe(f):
    return causal("Ernie4_5_Moe", mixture(
        f, moe_num_experts=f.get("expert_count"), moe_k=f.get("expert_used_count"), use_bias=False,
        moe_layer_start_index=f.get("leading_dense_block_count"), moe_layer_end_index=f.get("block_count") - 1,
        moe_layer_interval=1, moe_num_shared_experts=f.get("expert_shared_count"), moe_norm_min=1e-12))


def hunyuan_moe(f):
    base = mixture(f, num_experts=f.get("expert_count"), moe_topk=f.get("expert_used_count"), attention_bias=False)
    return causal("HunYuanMoEV1", base)


def deepseek2(f):
    """DeepSeek-V2 chooses experts by a softmax, V3 by sigmoids; GLM-4.7-Flash is V3 of another name."""
    base, turned = common(f), f.get("rope.dimension_count")
    key, value = (f.get(f"attention.{name}_length_mla", f.get(f"attention.{name}_length")) for name in ("key", "value"))
    del base["head_dim"]
    parameters = rope(f)
    if parameters["rope_type"] == "yarn":
        parameters["mscale"] = parameters["mscale_all_dim"] = 10 * f.get("rope.scaling.yarn_log_multiplier")
    more = dict(
        num_key_value_heads=base["num_attention_heads"], rope_parameters=parameters, qk_rope_head_dim=turned,
        qk_nope_head_dim=key - turned, v_head_dim=value,
        q_lora_rank=f.get("attention.q_lora_rank"), kv_lora_rank=f.get("attention.kv_lora_rank"),
        n_routed_experts=f.get("expert_count"), num_experts_per_tok=f.get("expert_used_count"),
        n_shared_experts=f.get("expert_shared_count"), moe_intermediate_size=f.get("expert_feed_forward_length"),
        routed_scaling_factor=f.get("expert_weights_scale", 1.0), norm_topk_prob=f.get("expert_weights_norm", False),
        n_group=f.get("expert_group_count", 1), topk_group=f.get("expert_group_used_count", 1))
    dense = f.get("leading_dense_block_count")
    if f.get("expert_gating_func", 1) == 1:
        more["topk_method"] = "group_limited_greedy" if more["n_group"] > 1 else "greedy"
        return causal("DeepseekV2", dict(base, **more), first_k_dense_replace=dense)
    if f.values["general.name"] == "deepseek2-glm":
        kinds = ["dense"] * dense + ["sparse"] * (f.get("block_count") - dense)
        return causal("Glm4MoeLite", dict(base, **more), mlp_layer_types=kinds)
    return causal("DeepseekV3", dict(base, **more), first_k_dense_replace=dense)


def kv_b(f, name):
    """Each head's rows of keys, then those of values, which most files have in two tensors, keys' turned round."""
    block = "blk." + name.split(".")[2] + "."
    if block + "attn_kv_b.weight" in f.tensors:
        return f.take(block + "attn_kv_b.weight")
    k, v = f.take(block + "attn_k_b.weight"), f.take(block + "attn_v_b.weight")
    return torch.cat([k.transpose(1, 2), v], dim=1).flatten(0, 1)


class Instead(torch.nn.Module):
    """What a layer has in the place of attention or a feed-forward: a matrix, or nothing, which adds nothing."""

    def __init__(self, width, in_pair):
        super().__init__()
        self.in_pair = in_pair
        if width:
            self.linear = torch.nn.Linear(width, width, bias=False)

    def forward(self, x=None, hidden_states=None, **_):
        x = hidden_states if x is None else x
        out = self.linear(x) if hasattr(self, "linear") else torch.zeros_like(x)
        return (out, None) if self.in_pair else out


def deci(f):
    """Llama's layers, some of whose blocks are taken out."""
    model = causal("Llama", common(f), rope_parameters=rope(f))
    for i, layer in enumerate(model.model.layers):
        heads, kv_heads = f.get("attention.head_count")[i], f.get("attention.head_count_kv")[i]
        ff = f.get("feed_forward_length")[i]
        new = type(layer)(transformers.LlamaConfig(**dict(
            common(f), num_key_value_heads=kv_heads or 1, intermediate_size=ff or 1), rope_parameters=rope(f)), i)
        if not kv_heads:
            new.self_attn = Instead(f.get("embedding_length") if heads else 0, True)
            new.input_layernorm = new.input_layernorm if heads else torch.nn.Identity()
        if not ff:
            new.mlp, new.post_attention_layernorm = Instead(0, False), torch.nn.Identity()
        model.model.layers[i] = new
    return model


def regroup_qkv(f, weight):
    """Q, K and V of each group of heads beside each other, as Falcon and GPT-NeoX have them."""
    heads, kv_heads = f.get("attention.head_count"), f.get("attention.head_count_kv")
    parts = weight.reshape(heads + 2 * kv_heads, -1, *weight.shape[1:])
    q, k, v = parts[:heads], parts[heads:heads + kv_heads], parts[heads + kv_heads:]
    groups = [torch.cat([q[g * heads // kv_heads:(g + 1) * heads // kv_heads], k[g:g + 1], v[g:g + 1]])
              for g in range(kv_heads)]
    return torch.cat(groups).reshape(weight.shape)


FAMILY = {"smollm3": smollm3, "seed_oss": seed_oss, "granite": granite, "minicpm": granite, "mistral3": mistral3,
          "glm4": glm4, "arcee": arcee, "ernie4_5": ernie4_5, "internlm2": llama_by_another_name,
          "baichuan": llama_by_another_name, "hunyuan-dense": hunyuan_dense, "command-r": command_r,
          "cohere2": cohere2, "phi2": phi2, "falcon": falcon, "gptneox": gptneox, "stablelm": stablelm,
          "starcoder2": starcoder2, "olmo2": olmo2, "exaone4": exaone4, "olmoe": olmoe, "qwen2moe": qwen2moe,
          "granitemoe": granitemoe, "glm4moe": glm4moe, "dots1": dots1, "bailingmoe2": glm4moe,
          "ernie4_5-moe": ernie4_5_moe, "hunyuan-moe": hunyuan_moe, "deci": deci,
          "deepseek2": deepseek2}
# Those whose files have the rows of Q and K in Llama's order; the published weights have halves.
INTERLEAVED = {"llama", "smollm3", "granite", "minicpm", "mistral3", "arcee", "internlm2", "baichuan", "granitemoe", "deci"}
MODELS = {"llama": llama, "qwen2": qwen2, "qwen3": qwen3, "qwen3moe": qwen3moe, "phi3": phi3, "gemma": gemma,
          "gemma2": gemma2, "gemma3": gemma3, "gpt-oss": gpt_oss, "gpt2": gpt2, **FAMILY}
# Whose names of transformers' weights lead to the file's, where the map has the published model's names.
NAMED_LIKE = {"bailingmoe2": "dots1"}
ENUMS = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}


def interleave_to_halves(weight, n_heads):
    """Undoes the order of rows that Llama's files have Q and K in."""
    return weight.reshape(n_heads, len(weight) // n_heads // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)


def experts(f, name):
    """Parameters that hold all experts, in transformers' shapes."""
    block = "blk." + name.split(".")[2] + ".ffn_"
    part = "bias" if name.endswith("_bias") else "weight"
    if "down_proj" in name:
        out = f.take(f"{block}down_exps.{part}")
        return out.swapaxes(1, 2) if f.arch == "gpt-oss" and part == "weight" else out
    gate, up = f.take(f"{block}gate_exps.{part}"), f.take(f"{block}up_exps.{part}")
    if f.arch != "gpt-oss":
        return torch.cat([gate, up], dim=1)
    both = torch.stack([gate, up], dim=2).reshape(gate.shape[0], 2 * gate.shape[1], *gate.shape[2:])
    return both.swapaxes(1, 2) if part == "weight" else both


def pad_values(f, weight, gguf_name):
    """Values narrower than keys are as wide as keys with zeros behind them: transformers' heads have one width."""
    heads, kv_heads = f.get("attention.head_count"), f.get("attention.head_count_kv")
    key, value = f.get("attention.key_length"), f.get("attention.value_length")
    if ".attn_v." in gguf_name:
        parts = weight.reshape(kv_heads, value, -1)
        return torch.nn.functional.pad(parts, (0, 0, 0, key - value)).reshape(kv_heads * key, -1)
    parts = weight.reshape(-1, heads, value)
    return torch.nn.functional.pad(parts, (0, key - value)).reshape(-1, heads * key)


def fused_part(f, gguf_name):
    """attn_q, attn_k or attn_v of a file that has them in one tensor."""
    heads, kv_heads = f.get("attention.head_count"), f.get("attention.head_count_kv")
    whole = f.take(re.sub("attn_.", "attn_qkv", gguf_name))
    size = len(whole) // (heads + 2 * kv_heads)
    return whole.split([heads * size, kv_heads * size, kv_heads * size])["qkv".index(gguf_name.split("attn_")[1][0])]


def feed_forward_of(f, name):
    """Routers, shared experts and dense layers of mixtures of experts, by transformers' names; None for anything else."""
    block = "blk." + (re.findall(r"layers\.(\d+)\.", name) or ["0"])[0] + "."
    if ".block_sparse_moe.experts." in name:
        return experts(f, name)
    if name.endswith("e_score_correction_bias"):
        bias = f.take(block + "exp_probs_b.bias")
        return bias[None] if "moe_statics" in name else bias
    if re.search(r"(mlp\.gate(\.wg)?|moe\.router)\.weight$", name):
        return f.take(block + "ffn_gate_inp.weight")
    if name.endswith("shared_expert_gate.weight"):
        return f.take(block + "ffn_gate_inp_shexp.weight")[None]
    if name.endswith("shared_mlp.input_linear.weight"):
        return torch.cat([f.take(block + "ffn_gate_shexp.weight"), f.take(block + "ffn_up_shexp.weight")])
    if name.endswith("shared_mlp.output_linear.weight"):
        return f.take(block + "ffn_down_shexp.weight")
    if part := re.search(r"mlp\.(shared_\w+\.)?(gate|up|down)_proj\.weight$", name):
        return f.take(f"{block}ffn_{part[2]}{'_shexp' if part[1] else ''}.weight")
    return None


def weight_of(f, name, names):
    if f.arch == "qwen3moe" and (part := re.fullmatch(r"model.layers.(\d+).mlp.(gate|up|down)_proj.weight", name)):
        return f.take(f"blk.{part[1]}.ffn_{part[2]}.weight")  # a dense layer, which the map does not know
    if f.arch in FAMILY and (found := feed_forward_of(f, name)) is not None:
        return found
    if name.endswith("kv_b_proj.weight"):
        return kv_b(f, name)
    if name.endswith("self_attn.linear.weight"):
        return f.take("blk." + name.split(".")[2] + ".attn_output.weight")
    if ".mlp.experts." in name:
        return experts(f, name)
    if f.arch == "gpt-oss" and ".mlp.router." in name:
        return f.take(name.replace("model.layers", "blk").replace("mlp.router", "ffn_gate_inp"))
    if name.endswith("self_attn.sinks"):
        return f.take("blk." + name.split(".")[2] + ".attn_sinks.weight")
    if name == "lm_head.weight" and "output.weight" not in f.tensors:
        return f.take("token_embd.weight")
    gguf_name = names.get_name(name, try_suffixes=(".weight", ".bias"))
    if f.arch == "gpt-oss" and "post_attention_layernorm" in name:
        gguf_name = "blk." + name.split(".")[2] + ".post_attention_norm.weight"
    if f.arch in ("phi2", "bailingmoe2") and gguf_name not in f.tensors:
        return fused_part(f, gguf_name)
    weight = f.take(gguf_name)
    if f.arch in ("falcon", "gptneox") and "attn_qkv" in gguf_name:
        return regroup_qkv(f, weight)
    layer = int(gguf_name.split(".")[1]) if gguf_name.startswith("blk.") else 0
    if f.arch in INTERLEAVED and ".attn_q." in gguf_name:
        return interleave_to_halves(weight, of_layer(f.get("attention.head_count"), layer))
    if f.arch in INTERLEAVED and ".attn_k." in gguf_name:
        return interleave_to_halves(weight, of_layer(f.get("attention.head_count_kv"), layer))
    if f.arch != "deepseek2" and (".attn_v." in gguf_name or ".attn_output." in gguf_name) and \
            f.get("attention.value_length", 0) < f.get("attention.key_length", 0) and f.get("attention.value_length"):
        return pad_values(f, weight, gguf_name)
    if f.arch.startswith("gemma") and "norm" in gguf_name:
        return weight - 1
    if f.arch == "gpt2" and weight.dim() == 2 and ".h." in name:
        return weight.T
    return weight


def logits_of(path):
    f = File(path)
    other = next((m for m in (make_arch_states, make_arch_gemma, make_arch_meta) if f.arch in m.MODELS), None)
    model = (other.MODELS if other else MODELS)[f.arch](f).to(getattr(other, "PRECISION", torch.float32)).eval()
    names = None if other else gguf.get_tensor_name_map(ENUMS[NAMED_LIKE.get(f.arch, f.arch)], f.get("block_count"))
    state = model.state_dict()
    for name, value in state.items():
        weight = other.weight_of(f, name, value) if other else weight_of(f, name, names)
        if weight.shape != value.shape:
            raise SystemExit(f"{path}: {name} is {tuple(value.shape)}, found {tuple(weight.shape)}")
        state[name] = weight
    model.load_state_dict(state)
    if f.unread:
        raise SystemExit(f"{path}: not used: {sorted(f.unread)}")
    with torch.no_grad():
        logits = model(torch.tensor([f.values["test.tokens"]])).logits[0].numpy().astype("<f4")
    if len(logits) > 96:
        return logits[15::16]
    return logits[7::8] if f.arch in FAMILY or other else logits


def main():
    models, out, *only = sys.argv[1:]
    for file in sorted(os.listdir(models)):
        name = file.removesuffix(".gguf")
        if only and name not in only:
            continue
        logits = logits_of(os.path.join(models, file))
        logits.tofile(os.path.join(out, name + ".bin"))
        print(f"{name:16} {logits.shape} standard deviation {logits.std():.4f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
