"""HookedTransformer of TransformerLens 3.9, built from a config and weights that are in memory.

Its own loader knows models by their name on the hub; here the shape comes from the transformers
config, so that any model of a known family can be read.
"""

from typing import Any

import torch
from torch import Tensor
from transformer_lens import HookedTransformer
from transformer_lens.config.hooked_transformer_config import HookedTransformerConfig
from transformer_lens.pretrained import weight_conversions
from transformers import PretrainedConfig, PreTrainedModel

from models.card import ModelError, NativeConfig
from models.native import parameters_of, reshaped, sizes_of

# Its attention masks grow with the square of the context, once for every layer.
LONGEST = 2048
FOLDING = ("fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases")
CONVERSIONS = {
    "gpt2": weight_conversions.convert_gpt2_weights,
    "gpt_neox": weight_conversions.convert_neox_weights,
    "llama": weight_conversions.convert_llama_weights,
    "mistral": weight_conversions.convert_mistral_weights,
    "qwen2": weight_conversions.convert_qwen2_weights,
    "qwen3": weight_conversions.convert_qwen3_weights,
    "gemma2": weight_conversions.convert_gemma_weights,
    "gemma3_text": weight_conversions.convert_gemma_weights,
}


def hooked_transformer(plain: PreTrainedModel, *, folded: bool) -> HookedTransformer:
    """A transformers model as a HookedTransformer; raises ModelError for an unknown family."""
    family = plain.config.model_type
    if family not in CONVERSIONS:
        raise ModelError(
            f"{family} models are not read under TransformerLens 3.9; install transformer-lens 4"
        )
    shape = _gpt2 if family == "gpt2" else _neox if family == "gpt_neox" else _rotary_rms
    settings = HookedTransformerConfig.from_dict(
        {
            **shape(plain.config),
            "original_architecture": type(plain).__name__,
            "dtype": plain.dtype,
            "device": str(plain.device),
            "init_weights": False,
            "default_prepend_bos": False,
        }
    )
    return _filled(settings, CONVERSIONS[family](plain, settings), folded)


def hooked_native(
    config: NativeConfig, weights: dict[str, Tensor], *, folded: bool
) -> HookedTransformer:
    """A HookedTransformer of a native shape from weights in the bridge's names."""
    sizes = sizes_of(config)
    stated = config.model_dump(exclude={"d_vocab_out", "d_mlp"})
    some = weights["embed.weight"]
    known = {"d_mlp": sizes["d_mlp"], "d_vocab_out": sizes["d_vocab_out"], "init_weights": False}
    settings = HookedTransformerConfig.from_dict(
        {**stated, **known, "dtype": some.dtype, "device": str(some.device)}
    )
    grouped = config.n_key_value_heads is not None
    named = {}
    for names in parameters_of(config):
        tensor = reshaped(weights[names.bridge], names.bridge_axes, names.axes, sizes)
        key_or_value = grouped and names.hooked[-3:] in ("W_K", "W_V", "b_K", "b_V")
        block, _, leaf = names.hooked.rpartition(".")
        named[f"{block}._{leaf}" if key_or_value else names.hooked] = tensor
    return _filled(settings, named, folded)


def fresh_hooked(settings: HookedTransformerConfig, seed: int) -> HookedTransformer:
    """A HookedTransformer of a shape as its own library initialises it."""
    fresh = {"init_weights": True, "tokenizer_name": None, "seed": None}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return HookedTransformer(HookedTransformerConfig.from_dict(settings.to_dict() | fresh))


def _filled(
    settings: HookedTransformerConfig, weights: dict[str, Tensor], folded: bool
) -> HookedTransformer:
    """A HookedTransformer with the given weights, as they are or folded and centred."""
    model = HookedTransformer(settings)
    model.load_and_process_state_dict(weights, **dict.fromkeys(FOLDING, folded))
    return model


def _gpt2(config: PretrainedConfig) -> dict[str, Any]:
    """GPT-2: learned positions, layer norms with shifts."""
    return {
        "d_model": config.n_embd,
        "d_head": config.n_embd // config.n_head,
        "n_heads": config.n_head,
        "d_mlp": config.n_inner or 4 * config.n_embd,
        "n_layers": config.n_layer,
        "n_ctx": config.n_positions,
        "eps": config.layer_norm_epsilon,
        "d_vocab": config.vocab_size,
        "act_fn": config.activation_function,
        "use_attn_scale": config.scale_attn_weights,
        "scale_attn_by_inverse_layer_idx": config.scale_attn_by_inverse_layer_idx,
        "normalization_type": "LN",
    }


def _neox(config: PretrainedConfig) -> dict[str, Any]:
    """GPT-NeoX and Pythia: attention and MLP read the same state, part of a head is rotated."""
    shape, rope = _sizes(config), config.rope_parameters
    return {
        **shape,
        "eps": config.layer_norm_eps,
        "act_fn": config.hidden_act,
        "parallel_attn_mlp": config.use_parallel_residual,
        "normalization_type": "LN",
        "positional_embedding_type": "rotary",
        "rotary_dim": round(rope.get("partial_rotary_factor", 1.0) * shape["d_head"]),
        "rotary_base": rope["rope_theta"],
    }


def _rotary_rms(config: PretrainedConfig) -> dict[str, Any]:
    """Llama and what grew from it: RMS norms, rotated heads, gated MLPs, grouped queries."""
    shape = _sizes(config)
    family = config.model_type
    rope = config.rope_parameters
    grouped = family not in ("llama", "qwen3") or config.num_key_value_heads < shape["n_heads"]
    return {
        **shape,
        "eps": config.rms_norm_eps,
        "act_fn": getattr(config, "hidden_act", None) or config.hidden_activation,
        "n_key_value_heads": config.num_key_value_heads if grouped else None,
        "normalization_type": "RMS",
        "final_rms": True,
        "gated_mlp": True,
        "use_qk_norm": family in ("qwen3", "gemma3_text"),
        "positional_embedding_type": "rotary",
        "rotary_dim": shape["d_head"],
        "rotary_base": rope.get("full_attention", rope)["rope_theta"],
        **_llama3_scaling(rope),
        **_windows(config),
        **(_gemma(config) if family.startswith("gemma") else {}),
    }


def _sizes(config: PretrainedConfig) -> dict[str, Any]:
    """The lengths that all rotary families name alike."""
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return {
        "d_model": config.hidden_size,
        "d_head": head,
        "n_heads": config.num_attention_heads,
        "d_mlp": config.intermediate_size,
        "n_layers": config.num_hidden_layers,
        "n_ctx": min(config.max_position_embeddings, LONGEST),
        "d_vocab": config.vocab_size,
    }


def _llama3_scaling(rope: dict[str, Any]) -> dict[str, Any]:
    """Llama 3's stretched wavelengths."""
    if rope.get("rope_type") != "llama3":
        return {}
    return {
        "use_NTK_by_parts_rope": True,
        "NTK_by_parts_factor": rope["factor"],
        "NTK_by_parts_low_freq_factor": rope["low_freq_factor"],
        "NTK_by_parts_high_freq_factor": rope["high_freq_factor"],
        "NTK_original_ctx_len": rope["original_max_position_embeddings"],
    }


def _windows(config: PretrainedConfig) -> dict[str, Any]:
    """Which layers see only a window, and how far it goes back."""
    window = getattr(config, "sliding_window", None)
    if not window or not getattr(config, "use_sliding_window", True):
        return {}
    types = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
    local = ["local" if kind == "sliding_attention" else "global" for kind in types]
    return {"use_local_attn": True, "window_size": window, "attn_types": local}


def _gemma(config: PretrainedConfig) -> dict[str, Any]:
    """Gemma 2 and 3: norms after attention and MLP, soft caps, a rotation of its own in windows."""
    shape: dict[str, Any] = {
        "use_normalization_before_and_after": True,
        "attn_scale": config.query_pre_attn_scalar**0.5,
        "attn_scores_soft_cap": config.attn_logit_softcapping or -1.0,
        "output_logits_soft_cap": config.final_logit_softcapping or -1.0,
    }
    if local := config.rope_parameters.get("sliding_attention"):
        shape["rotary_base_local"] = local["rope_theta"]
    return shape
