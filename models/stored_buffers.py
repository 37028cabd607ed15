"""What files hold beside weights: masks and tables that old versions of transformers saved.

A model computes them from its config. One that is otherwise belongs to another model.
"""

import re
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor

from models.card import Card, ModelError
from models.protocol import PlainModel, PretrainedConfig

BUFFER = re.compile(
    r"(inv_freq|masked_bias|position_ids|rotary_emb\.(cos|sin)_cached|h\.\d+\.attn\.bias"
    r"|layers\.\d+\.attention\.bias|h\.\d+\.attn\.attention\.bias)$"
)
"""Masks and tables that old versions of transformers saved and newer ones compute."""
NEAR = 1e-2
"""Relative difference of tables that were saved in half precision."""


def refuse_other_buffers(card: Card, files: list[Path], names: set[str], model: PlainModel) -> None:
    """Raise ModelError for a stored mask or table that is not what the model computes."""
    own = dict(model.named_buffers())
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            for name in sorted(names & set(tensors.keys())):
                if not _is_computed(name, tensors.get_tensor(name), own, model.config):
                    raise ModelError(
                        f"{card.name}: {name} in {file} is not what the model computes from "
                        "config.json, so this would be another model; correct config.json "
                        "(rope_parameters, windows), or take that tensor out"
                    )


def _is_computed(
    name: str, stored: Tensor, own: dict[str, Tensor], config: PretrainedConfig
) -> bool:
    """Whether a stored buffer is the one that the model makes anew."""
    if name.endswith("masked_bias"):
        return bool((stored < -1e3).all())
    if name.endswith("position_ids"):
        return torch.equal(stored.flatten(), torch.arange(stored.numel()))
    if name.endswith("bias"):
        same = next((mask for place, mask in own.items() if place.endswith(name)), None)
        causal = torch.ones(stored.shape[-2:]).tril().bool()
        return torch.equal(stored.bool().squeeze(), causal if same is None else same.squeeze())
    if name.endswith("cached"):
        at_one = stored.reshape(-1, stored.shape[-1])[1, : stored.shape[-1] // 2]
        turned = torch.cos if name.endswith("cos_cached") else torch.sin
        return any(_near(at_one, turned(speed)) for speed in _speeds(at_one, own, config))
    return any(_near(stored, speed) for speed in _speeds(stored, own, config))


def _speeds(
    stored: Float[Tensor, "pair"], own: dict[str, Tensor], config: PretrainedConfig
) -> list[Float[Tensor, "pair"]]:
    """How fast pairs are rotated: the model's own tables, and the one without scaling.

    Old versions scaled positions where newer ones scale these.
    """
    rope = getattr(config.get_text_config(), "rope_parameters", None) or {}
    found = [table.float() for name, table in own.items() if name.endswith("inv_freq")]
    bases = {part.get("rope_theta") for part in (rope, *rope.values()) if isinstance(part, dict)}
    steps = torch.arange(len(stored)) / max(1, len(stored))
    return found + [float(base) ** -steps for base in bases if base]


def _near(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one.float(), other, NEAR, NEAR**2)
