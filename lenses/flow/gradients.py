"""How much the traced token's log-probability would change with each state (SCIENCE 8)."""

from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models import Model
from models.passes import Hooks, reading


def state_gradients(
    model: Model, tokens: Int[Tensor, "pos"], target: int
) -> Float[Tensor, "depth pos d_model"]:
    """Gradient of log p(target | tokens) by every state after `depth` blocks, on the CPU.

    Its L2 norm is the steepest change that a small step of any state makes (Simonyan et al. 2013,
    1312.6034, section 3, for inputs).
    """
    seen: list[Tensor] = []
    hooks: Hooks = [("blocks.0.hook_resid_pre", partial(_begin, seen))]
    for layer in range(model.cfg.n_layers):
        hooks.append((f"blocks.{layer}.hook_resid_post", partial(_see, seen)))
    last = torch.tensor([[len(tokens) - 1]], device=model.cfg.device)
    with torch.inference_mode(False), torch.enable_grad(), reading(model, last):
        given = tokens[None].clone().to(model.cfg.device)
        logits = model.run_with_hooks(given, return_type="logits", fwd_hooks=hooks)
        odds = log_odds(logits[:, -1].float(), target)
        found = torch.autograd.grad(odds, seen)
    gradients = torch.cat(found).detach().float() * torch.sigmoid(-odds.detach())
    return gradients.cpu()


def log_odds(logits: Float[Tensor, "1 vocab"], target: int) -> Float[Tensor, ""]:
    """log(p / (1 - p)) of a token: where p is nearly 1, log p itself has no digits left.

    The gradient of log p is (1 - p) times that of the log-odds.
    """
    others = torch.cat([logits[:, :target], logits[:, target + 1 :]], dim=-1)
    return (logits[:, target] - others.logsumexp(-1)).sum()


def _begin(seen: list[Tensor], resid: Tensor, hook: object) -> Tensor:
    seen.append(resid.detach().requires_grad_(True))
    return seen[-1]


def _see(seen: list[Tensor], resid: Tensor, hook: object) -> Tensor:
    seen.append(resid)
    return resid  # the bridge shows a hook another view than the one that goes on
