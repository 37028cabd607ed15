"""What a token is after the first MLP, before any attention: the effective embedding."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.passes import Hooks
from models.protocol import Model

TOKENS = 2**12
"""That pass the first block at once."""


@torch.inference_mode()
def effective_embedding(model: Model, ids: Int[Tensor, "token"]) -> Float[Tensor, "token d_model"]:
    """E plus what the first MLP adds to it, each token by itself and attention left out.

    In models that tie E to U the first MLP is thought to turn "this token" into "what it means"
    (Wang et al. 2022, 2211.00593, appendix; Gould et al. 2023, 2312.09230). Without an MLP in the
    first block it is what enters that block.
    """
    found: list[Tensor] = []

    def keep(state: Tensor, hook: object) -> None:
        found.append(state[:, 0].float())

    hooks: Hooks = [
        ("blocks.0.hook_attn_out", _nothing),
        ("blocks.0.hook_resid_post", keep),
    ]
    for part in ids.to(model.cfg.device).split(TOKENS):
        model.run_with_hooks(part[:, None], return_type=None, stop_at_layer=1, fwd_hooks=hooks)
    return torch.cat(found)


def _nothing(attn_out: Tensor, hook: object) -> Tensor:
    return torch.zeros_like(attn_out)
