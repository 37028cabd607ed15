"""From one state back to the input: how much of it came which way (SCIENCE 8).

All weight starts at one state; at each joint it is divided by a rule's shares. What reaches the
embeddings, what the biases of attention bring, and what a threshold drops sum to 1.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lenses.flow.splits import Split


@dataclass(frozen=True)
class Threshold:
    """Which links out of a joint are followed; the others' weight is dropped there."""

    kind: Literal["none", "top-k", "top-p", "minimum weight"] = "none"
    """All; the `value` strongest of each joint; the fewest that hold a share `value` of it; those
    that carry at least `value` of the traced state."""
    value: float = 0.0


NONE = Threshold()


@dataclass(frozen=True)
class Flow:
    """Weights of states and links; depth d is the state after d blocks, 0 being the embedding."""

    state: Float[Tensor, "depth pos"]
    mid: Float[Tensor, "layer pos"]
    """Of the joints between attention and MLP."""
    through: Float[Tensor, "layer pos"]
    """Links from resid_post to resid_mid past the MLP."""
    mlp: Float[Tensor, "layer pos"]
    """Links through the MLP, to resid_mid; to resid_pre where it runs beside attention."""
    residual: Float[Tensor, "layer pos"]
    """Links from resid_mid to resid_pre past attention."""
    attention: Float[Tensor, "layer query source"]
    """Links from resid_mid to each source's resid_pre."""
    bias: Float[Tensor, "layer pos"]
    """Weight that the output bias of attention brought; it comes from no token."""
    dropped: Float[Tensor, "layer pos"]
    """Weight on links that the threshold left out."""

    @property
    def sources(self) -> Float[Tensor, "pos"]:
        """Weight that comes from each token's embedding."""
        return self.state[0]

    @property
    def error(self) -> float:
        """How far what arrives, what biases bring and what is dropped are from summing to 1."""
        return abs((self.state[0].sum() + self.bias.sum() + self.dropped.sum()).item() - 1)


def trace(split: Split, depth: int, pos: int, threshold: Threshold = NONE) -> Flow:
    """The flow into the state of `pos` after `depth` blocks."""
    layers, length = split.residual.shape
    state = torch.zeros(layers + 1, length, dtype=torch.float64)
    kept = {name: torch.zeros(layers, length, dtype=torch.float64)
            for name in ("mid", "through", "mlp", "residual", "bias", "dropped")}  # fmt: skip
    attention = torch.zeros(layers, length, length, dtype=torch.float64)
    state[depth, pos % length] = 1
    for layer in reversed(range(depth)):
        mlp = split.mlp[layer].double()
        after, lost_after = _followed(state[layer + 1], torch.stack([1 - mlp, mlp], -1), threshold)
        through, mlp = after.unbind(-1)
        mid = through if split.parallel else through + mlp
        parts = [split.attention[layer], split.bias[layer, :, None], split.residual[layer, :, None]]
        links, lost = _followed(mid, torch.cat(parts, dim=1).double(), threshold)
        attention[layer], bias, residual = links[:, :-2], links[:, -2], links[:, -1]
        state[layer] = residual + attention[layer].sum(0) + (mlp if split.parallel else 0)
        now = {"mid": mid, "through": through, "mlp": mlp, "residual": residual, "bias": bias,
               "dropped": lost_after + lost}  # fmt: skip
        for name, value in now.items():
            kept[name][layer] = value
    return Flow(state=state, attention=attention, **kept)


def _followed(
    weight: Float[Tensor, "pos"], shares: Float[Tensor, "pos part"], threshold: Threshold
) -> tuple[Float[Tensor, "pos part"], Float[Tensor, "pos"]]:
    """The weight of each joint on those of its links that are followed, and on all others.

    Shares stored in float32 are made to sum to 1 here.
    """
    links = weight[:, None] * shares / shares.sum(-1, keepdim=True)
    kept = _kept(links, shares, threshold)
    return torch.where(kept, links, 0), torch.where(kept, 0, links).sum(-1)


def _kept(
    links: Float[Tensor, "pos part"], shares: Float[Tensor, "pos part"], threshold: Threshold
) -> Bool[Tensor, "pos part"]:
    if threshold.kind == "none":
        return torch.ones_like(shares, dtype=torch.bool)
    if threshold.kind == "minimum weight":
        return links >= threshold.value
    order = shares.argsort(dim=-1, descending=True, stable=True)
    ranked = shares.gather(-1, order)
    if threshold.kind == "top-k":
        within = torch.arange(shares.shape[-1]) < threshold.value
        within = within.expand_as(shares)
    else:  # a link is followed as long as those before it hold less than the share asked for
        within = ranked.cumsum(-1) - ranked < threshold.value * shares.sum(-1, keepdim=True)
    return torch.zeros_like(shares, dtype=torch.bool).scatter(-1, order, within)


def without_sink(split: Split) -> Split:
    """No attention to the first token: what other tokens get from attention grows accordingly.

    Where attention moves nothing else, its share goes to the residual stream.
    """
    attention = split.attention.clone()
    attention[:, 1:, 0] = 0
    before, left = split.attention.sum(-1), attention.sum(-1)
    factor = torch.where(left > 0, before / left, 0)
    attention = attention * factor[..., None]
    residual = 1 - split.bias - attention.sum(-1)
    loading = split.loading * factor[..., None, None]
    loading[:, 1:, 0] = 0
    return replace(split, attention=attention, residual=residual, loading=loading)
