"""Which kinds of model can be measured, and how far they read: what a config says of it."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from models.card import LARGEST, MOST_LAYERS, Card, ModelError
from models.protocol import PlainModel, PretrainedConfig

UNBOUNDED = 2**30
"""The longest text of a model whose positions have no end (ALiBi)."""
ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
OTHER_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
"""Files of weights that are not read from a folder."""
MOST = {
    "layer": MOST_LAYERS, "head": 2**14, "expert": 2**14, "hidden_size": 2**20, "n_embd": 2**20,
    "d_model": 2**20, "intermediate_size": 2**22, "vocab_size": 2**24,
}  # fmt: skip
"""What a number of a config is at most, by a part of its name; of others LARGEST."""
DEQUANTISED = {"mxfp4"}
"""Ways of quantising that transformers undoes while reading (gpt-oss)."""
CHANGING = {
    *("sliding_window", "attention_chunk_size", "no_rope_layers", "no_rope_layer_interval"),
    *("final_logit_softcapping", "attn_logit_softcapping", "logit_scale", "logits_scaling"),
    *("residual_multiplier", "embedding_multiplier", "attention_multiplier", "lm_head_multiplier"),
    *("scale_emb", "scale_depth", "dim_model_base", "scale_embedding", "query_pre_attn_scalar"),
    *("clip_qkv", "qk_layernorm", "use_qk_norm", "alibi", "use_parallel_residual", "rotary_dim"),
}
"""Fields of some kind's config that change what is computed."""
KNOWN = {"model_type", "auto_map", "torch_dtype", "rope_theta", "rope_scaling", "_name_or_path"}
"""Fields of a config.json that every kind reads, or that say nothing of the computation."""


def refuse_unreadable_folder(card: Card, folder: Path) -> None:
    """Raise ModelError for a folder whose weights would be read wrongly or not at all."""
    adapter = next((name for name in ADAPTERS if (folder / name).is_file()), None)
    if adapter is not None:
        raise ModelError(
            f"{card.name}: {folder} holds an adapter that is not merged ({adapter}); merge it into "
            "its base model (merge_and_unload) and save that"
        )
    _refuse_config(card, folder / "config.json")


def no_safetensors(name: str, folder: Path) -> ModelError:
    """The error for a folder without weights that can be read, which names those it has."""
    others = sorted(file.name for kind in OTHER_WEIGHTS for file in folder.glob(kind))
    if others:
        return ModelError(
            f"{name}: only {others[0]} is in {folder}, which is not read; convert it to safetensors"
        )
    return ModelError(
        f"{name}: no weights at {folder / 'model.safetensors'}; put them there or correct the path"
    )


def _refuse_config(card: Card, file: Path) -> None:
    """Raise ModelError for encoder-decoders and for quantised weights."""
    try:
        config = json.loads(file.read_text("utf-8"))
        quantised, pair = config.get("quantization_config"), config.get("is_encoder_decoder")
        elsewhere = config.get("transformers_weights")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{card.name}: {file} is no readable config ({error}); mend it") from error
    _refuse_large_numbers(card, file, config)
    if elsewhere:
        raise ModelError(
            f"{card.name}: {file} names other weights than model.safetensors "
            f"({str(elsewhere)[:80]}); take transformers_weights out, and call that file so"
        )
    if pair:
        raise ModelError(
            f"{card.name}: {config.get('model_type')} models are pairs of encoder and decoder; "
            "use a model that only continues text"
        )
    way = quantised.get("quant_method") if isinstance(quantised, dict) else str(quantised)[:80]
    if quantised and str(way) not in DEQUANTISED:
        raise ModelError(
            f"{card.name}: its weights are quantised by {way}; dequantise them and save them as "
            "float, or use a .gguf file of this model"
        )


def _refuse_large_numbers(card: Card, file: Path, config: dict[str, Any]) -> None:
    """Raise ModelError for numbers that no model has, before a model is made of them."""
    for name, value in config.items():
        if isinstance(value, dict):
            _refuse_large_numbers(card, file, value)
        most = next((most for part, most in MOST.items() if part in name), LARGEST)
        if isinstance(value, int | float) and not abs(value) <= most:
            said = f"{name[:40]} = {str(value)[:20]}"
            raise ModelError(f"{card.name}: {file}, {said}: not at most {most}; mend it")


def ignored_fields(card: Card, folder: Path, config: PretrainedConfig) -> list[str]:
    """Fields of a config.json that its kind of model does not have.

    Raises ModelError for one that changes the computation of another kind: here it is lost.
    """
    shape = config.get_text_config()
    stated = json.loads((folder / "config.json").read_text("utf-8"))
    stated = stated if shape is config else stated.get("text_config", {})
    own = {field.name for field in fields(type(shape))} | KNOWN | set(shape.attribute_map)
    ignored = sorted(stated.keys() - own)
    for name in ignored:
        neutral = stated[name] is not True and stated[name] in (None, False, 0, 1, [], {})
        if name in CHANGING and not neutral:
            raise ModelError(
                f"{card.name}: config.json in {folder} states {name} = {str(stated[name])[:40]}, "
                f"which {shape.model_type} models do not have, so this would be another model; "
                "correct model_type, or take that out"
            )
    return ignored


def longest_of(config: PretrainedConfig) -> int:
    """The longest text that a model reads; UNBOUNDED where its config states none.

    Where a longer text is rotated otherwise from its first token on (longrope), the longest before
    that: beyond it, what a token gets would depend on how many follow it.
    """
    shape = config.get_text_config()
    stated = [getattr(shape, name, None) for name in ("max_position_embeddings", "max_seq_len")]
    rope = getattr(shape, "rope_parameters", None) or {}
    if rope.get("rope_type") == "longrope":
        stated.append(rope.get("original_max_position_embeddings"))
    return min((n for n in stated if isinstance(n, int) and n > 0), default=UNBOUNDED)


def end_tokens_of(plain: PlainModel) -> tuple[int, ...]:
    """Every token at which transformers ends a continuation."""
    ends = getattr(plain.generation_config, "eos_token_id", None)
    return () if ends is None else (ends,) if isinstance(ends, int) else tuple(ends)


def refuse_without_attention(card: Card, model: Any) -> None:
    """Raise ModelError unless every block has attention."""
    blocks = [dict(block.named_children()) for block in getattr(model, "blocks", [])]
    if bare := [number for number, parts in enumerate(blocks) if "attn" not in parts]:
        some = "no layer has" if len(bare) == len(blocks) else f"{_layers(bare)} no"
        raise ModelError(
            f"{card.name}: {some} attention; use a model with attention in every layer"
        )


def _layers(numbers: list[int]) -> str:
    """`layer 3 has`, or `layers 0, 2 have`."""
    if len(numbers) == 1:
        return f"layer {numbers[0]} has"
    return f"layers {', '.join(map(str, numbers))} have"
