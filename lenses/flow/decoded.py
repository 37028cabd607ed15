"""What each state of a text says by itself, read by the model's own readout (SCIENCE 4).

The logit lens (nostalgebraist 2020): the final norm and the unembedding of any state, as it is.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models import Model
from models.passes import Hooks
from models.readout import unembedding


@dataclass(frozen=True)
class Decoded:
    """The likeliest tokens of each state, likeliest first, on the CPU."""

    ids: Int[Tensor, "depth pos rank"]
    probability: Float[Tensor, "depth pos rank"]


@torch.inference_mode()
def decoded(model: Model, tokens: Int[Tensor, "pos"], count: int) -> Decoded:
    """What states say after 0, 1, ... blocks."""
    head, found = unembedding(model), []
    names = ["blocks.0.hook_resid_pre"]
    names += [f"blocks.{layer}.hook_resid_post" for layer in range(model.cfg.n_layers)]

    def read(state: Tensor, hook: object) -> None:
        found.append(head(state[0]).softmax(-1).topk(count))

    hooks: Hooks = [(name, read) for name in names]
    model.run_with_hooks(tokens[None].to(model.cfg.device), return_type=None, fwd_hooks=hooks)
    return Decoded(
        torch.stack([top.indices for top in found]).cpu(),
        torch.stack([top.values for top in found]).float().cpu(),
    )
