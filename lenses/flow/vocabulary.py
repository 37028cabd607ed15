"""Which part of a block decides what a state decodes to (SCIENCE 8)."""

from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models import Model
from models.passes import Hooks
from models.readout import unembedding

PARTS = ("residual stream", "attention", "MLP")
"""What a state after a block is the sum of, in the order of the last axis below."""


@torch.inference_mode()
def vocabulary_shares(model: Model, tokens: Int[Tensor, "pos"]) -> Float[Tensor, "layer pos part"]:
    """KL between what a state decodes to and what it decodes to without a part, as shares of one.

    Distributions are over the vocabulary, read by the final norm and the unembedding (logit lens).
    A part without which nothing changes has no share; where that is so of all, the stream has all.
    """
    head, kept = unembedding(model), {name: [] for name in ("resid_pre", "attn_out", "resid_post")}
    hooks: Hooks = [
        (f"blocks.{layer}.hook_{name}", partial(_keep, into))
        for layer in range(model.cfg.n_layers)
        for name, into in kept.items()
    ]
    model.run_with_hooks(tokens[None].to(model.cfg.device), return_type=None, fwd_hooks=hooks)
    found = []
    for pre, attention, post in zip(*kept.values(), strict=True):
        whole = head(post).float().log_softmax(-1)
        parts = (pre, attention, post - pre - attention)
        found.append(torch.stack([_moved(whole, head(post - part)) for part in parts], dim=-1))
    moved = torch.stack(found).cpu()
    total = moved.sum(-1, keepdim=True)
    nothing = torch.tensor([1.0, 0.0, 0.0])
    return torch.where(total > 0, moved / total, nothing)


def _keep(into: list[Tensor], value: Tensor, hook: object) -> None:
    into.append(value[0])


def _moved(
    whole: Float[Tensor, "pos vocab"], without: Float[Tensor, "pos vocab"]
) -> Float[Tensor, "pos"]:
    """KL(whole || without), at least 0."""
    rest = without.float().log_softmax(-1)
    return (whole.exp() * (whole - rest)).sum(-1).clamp(min=0)
