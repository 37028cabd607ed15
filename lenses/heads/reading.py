"""What every head holds while a model reads: z, patterns and, for the heads asked for, results."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from lenses.heads.contributions import Written
from models.parts import attention_out

if TYPE_CHECKING:
    from models import Model

Head = tuple[int, int]
"""Layer and head, counted from 0."""


@dataclass(frozen=True)
class HeadsRead:
    """What the heads of a model held while it read a batch."""

    z: Float[Tensor, "batch layer pos head d_head"]
    """Each head's mixed values, before W_O."""
    pattern: Float[Tensor, "batch layer head query key"]
    """Where each head attends: rows of shares."""
    result: dict[Head, Float[Tensor, "batch pos d_model"]]
    """What the heads asked for add to the residual stream, without the output bias."""


@torch.inference_mode()
def read(
    model: "Model", tokens: Int[Tensor, "batch pos"], results: Sequence[Head] = ()
) -> HeadsRead:
    """z and pattern of every head on a batch of tokens, and the result of some heads.

    `read(model, model.to_tokens("The sea is calm"), results=[(0, 3)]).result[0, 3]` is what head
    L0H3 adds at each token. The result is z @ W_O, scaled by the norm after attention where a
    model has one; equal to `hook_result`, which is never built for all heads at once.
    """
    layers = range(model.cfg.n_layers)
    names = ("attn.hook_z", "attn.hook_pattern")
    wanted = [f"blocks.{layer}.{name}" for layer in layers for name in names]
    _, cache = model.run_with_cache(tokens.to(model.cfg.device), names_filter=wanted)
    z, pattern = (
        torch.stack([cache[f"blocks.{layer}.{name}"] for layer in layers], dim=1)
        for name in names[:2]
    )
    return HeadsRead(z, pattern, {at: _result(model, z, *at) for at in results})


def _result(
    model: "Model", z: Float[Tensor, "batch layer pos head d_head"], layer: int, head: int
) -> Float[Tensor, "batch pos d_model"]:
    written = Written.of(z[:, layer], attention_out(model), layer)
    alone = einsum(
        written.z[:, :, head], written.W[head],
        "batch pos d_head, d_head d_model -> batch pos d_model",
    )  # fmt: skip
    return (alone * written.scale).to(z.dtype)
