"""What a model predicts without some of its heads: the one call most questions need."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

if TYPE_CHECKING:
    from models import Model

Z = Float[Tensor, "batch pos head d_head"]


@dataclass(frozen=True)
class Predicted:
    """What a model predicts after each token of a batch."""

    logits: Float[Tensor, "batch pos d_vocab_out"]
    losses: Float[Tensor, "batch pos_less_one"]
    """Negative log-likelihood of each next token, in nats; NaN for one that cannot be predicted."""


@torch.inference_mode()
def without_heads(
    model: "Model",
    tokens: Int[Tensor, "batch pos"],
    heads: Sequence[tuple[int, int]] = (),
    instead: Literal["zero", "mean"] = "zero",
) -> Predicted:
    """What is predicted when the z of each (layer, head) is removed at every token.

    Instead of it stands zero, or the head's mean at that position over the batch (which then holds
    texts of one length). Both should be looked at: they can contradict each other. Without any
    heads it is the model's own prediction. `without_heads(model, tokens, [(0, 3)])` removes L0H3.
    """
    by_layer: dict[int, list[int]] = {}
    for layer, head in heads:
        by_layer.setdefault(layer, []).append(head)
    hooks: list[tuple[str, Callable[..., Tensor]]] = [
        (f"blocks.{layer}.attn.hook_z", partial(_removed, gone, instead))
        for layer, gone in by_layer.items()
    ]
    tokens = tokens.to(model.cfg.device)
    logits = model.run_with_hooks(tokens, fwd_hooks=hooks)
    return Predicted(logits, _losses(logits[:, :-1].float(), tokens[:, 1:]))


def _removed(gone: list[int], instead: str, z: Z, hook: object) -> Z:
    z = z.clone()
    z[:, :, gone] = z[:, :, gone].mean(dim=0, keepdim=True) if instead == "mean" else 0
    return z


def _losses(
    logits: Float[Tensor, "batch pos vocab"], following: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch pos"]:
    known = following < logits.shape[-1]
    losses = cross_entropy(
        logits.transpose(1, 2), torch.where(known, following, 0), reduction="none"
    )
    return torch.where(known, losses, torch.nan)
