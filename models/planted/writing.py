"""What models whose weights are written by code share: random heads, and the way into a model."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from models.card import Card, NativeConfig
from models.loading import native_model
from models.native import in_bridge_names
from models.protocol import Model, Tokenizer
from prompts.additions import AdditionFormat

IGNORED = 16
"""The last axes of the residual stream: random heads write to them, and nothing reads them."""

ADDITIONS = AdditionFormat(
    digits=6,
    layout=("<bos>", "a", "+", "b", "=", "c"),
    vocabulary={sign: number for number, sign in enumerate([*"0123456789+=", "<bos>"])},
)
"""How a model that needs no particular one writes additions."""

Weights = dict[str, Tensor]
"""By HookedTransformer's names; those of one block without what stands before `W_Q`, `W_in`."""


def written(
    name: str,
    config: NativeConfig,
    outer: Weights,
    blocks: Sequence[Weights],
    *,
    arithmetic: AdditionFormat | None = None,
    tokenizer: Tokenizer | None = None,
) -> Model:
    """The model `planted_{name}` of these weights; biases that are left out are zero."""
    fields = {
        "source": "native",
        "weights": f"planted_{name}.safetensors",
        "notes": f"Weights written by code (models/planted/{name}.py); there is no file of them.",
        "config": config.model_dump(),
    }
    if arithmetic is not None:
        fields["arithmetic"] = arithmetic.model_dump()
    weights = dict(outer)
    for layer, block in enumerate(blocks):
        for key, weight in block.items():
            part = "mlp" if key.endswith(("in", "out")) else "attn"
            weights[f"blocks.{layer}.{part}.{key}"] = weight
    card = Card.of(f"planted_{name}", Path.cwd(), fields)
    model = native_model(card, config, in_bridge_names(weights, config))
    if tokenizer is not None:
        model.tokenizer = tokenizer
    return model


def weights_of(model: Model) -> tuple[Weights, list[Weights]]:
    """Copies of the embeddings of a planted model, and of the weights of each block."""
    outer = {"embed.W_E": model.W_E, "pos_embed.W_pos": model.W_pos, "unembed.W_U": model.W_U}
    inner = ["W_Q", "W_K", "W_V", "W_O"]
    inner += [] if model.cfg.attn_only else ["W_in", "b_in", "W_out"]
    stacked = {name: getattr(model, name) for name in inner}
    blocks = [
        {name: weight[layer].clone() for name, weight in stacked.items()}
        for layer in range(model.cfg.n_layers)
    ]
    return {name: weight.clone() for name, weight in outer.items()}, blocks


def random_heads(heads: int, d_model: int, d_head: int, told: int, rng: torch.Generator) -> Weights:
    """Heads that attend by, and move, the first `told` axes, and write what is ignored."""
    block = {name: torch.zeros(heads, d_model, d_head) for name in ("W_Q", "W_K", "W_V")}
    for weight in block.values():
        weight[:, :told] = torch.randn(heads, told, d_head, generator=rng)
    W_O = torch.zeros(heads, d_head, d_model)
    W_O[:, :, -IGNORED:] = torch.randn(heads, d_head, IGNORED, generator=rng)
    return block | {"W_O": W_O}
