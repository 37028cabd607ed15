"""What a change of a hidden state does to the last state, on average: the Jacobian lens.

J = mean over prompts and source positions t of sum over target positions t' >= t of
d(last state at t') / d(state at t), as in Gurnee et al. 2026 (Verbalizable Representations Form a
Global Workspace in Language Models) and TransformerLens' JacobianLens. A state is read through it
as `final norm, then U, of J @ state`; the logit lens is J = 1.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lenses.kept import Sums
from lenses.states.decoding import Site
from models import Model
from models.passes import reading

CHUNK = 32
"""Copies of a text in one pass: so many rows of J are found by one backward pass."""
SKIPPED = 1
"""First positions that are left out: the first token is the usual sink, unlike all others."""


def mean_jacobians(
    model: Model,
    token_lists: Sequence[Sequence[int]],
    layers: Sequence[int] | None = None,
    chunk: int = CHUNK,
    skip: int = SKIPPED,
) -> Float[Tensor, "layer d_model d_model"]:
    """J of each layer's resid_post, mean over texts; J @ state is what reaches the last state.

    All layers by default. Of the last one it is the identity.
    """
    chosen = range(model.cfg.n_layers) if layers is None else layers
    where = [Site(layer, "resid_post") for layer in chosen]
    return torch.stack(
        [text_jacobians(model, tokens, where, chunk, skip) for tokens in token_lists]
    ).mean(0)


def text_jacobians(
    model: Model,
    tokens: Sequence[int],
    where: Sequence[Site],
    chunk: int = CHUNK,
    skip: int = SKIPPED,
) -> Float[Tensor, "site d_model d_model"]:
    """J of some sites in one text: one forward pass and ceil(d_model / chunk) backward passes.

    Source and target positions are those from `skip` to the last but one.

    Raises:
        ValueError: the text is too short to have one.
    """
    if len(tokens) < skip + 2:
        raise ValueError(f"a text of {len(tokens)} tokens; a Jacobian needs {skip + 2} or more")
    flags = [(weight, weight.requires_grad) for weight in model.parameters()]
    for weight, _ in flags:
        weight.requires_grad_(False)  # the graph begins at the states, not at the weights
    try:
        states, last = _states(model, tokens[:-1], where, chunk)  # the last one changes nothing
        return _rows(states, last, slice(skip, None), chunk)
    finally:
        for weight, flag in flags:
            weight.requires_grad_(flag)


def _states(
    model: Model, tokens: Sequence[int], where: Sequence[Site], copies: int
) -> tuple[list[Float[Tensor, "copy pos d_model"]], Float[Tensor, "copy pos d_model"]]:
    """The states at sites and the last ones, of copies of a text, with the graph between them.

    It begins where the first block that is read is entered: what is exchanged within a block
    reaches its MLP alone.
    """
    found: dict[str, Tensor] = {}

    def keep(state: Tensor, hook: object, name: str) -> Tensor:
        found[name] = state.detach().requires_grad_(True) if name == root else state
        return found[name]

    end = Site(model.cfg.n_layers - 1, "resid_post").hook
    root = f"blocks.{min(site.block for site in where)}.hook_resid_pre"
    names = dict.fromkeys([root, *(site.hook for site in where), end])
    hooks = [(name, partial(keep, name=name)) for name in names]
    rows = torch.tensor([list(tokens)] * copies, device=model.cfg.device)
    with torch.enable_grad(), reading(model, torch.zeros_like(rows[:, :1])):
        model.run_with_hooks(rows, return_type="logits", fwd_hooks=hooks)
    return [found[site.hook] for site in where], found[end]


def _rows(
    states: list[Float[Tensor, "copy pos d_model"]],
    last: Float[Tensor, "copy pos d_model"],
    positions: slice,
    chunk: int,
) -> Float[Tensor, "site d_model d_model"]:
    """Rows of J, as many in one backward pass as there are copies."""
    width = last.shape[-1]
    found = torch.zeros(len(states), width, width)
    for start in range(0, width, chunk):
        copies = torch.arange(min(chunk, width - start))
        wanted = torch.zeros_like(last)
        wanted[copies, positions, start + copies] = 1.0
        more = start + chunk < width
        grads = torch.autograd.grad(last, states, wanted, retain_graph=more)
        for site, grad in enumerate(grads):
            mean = grad[: len(copies), positions].float().mean(1)
            found[site, start : start + len(copies)] = mean.cpu()
    return found


class MeanJacobians(Sums):
    """Running mean of Jacobians over texts."""

    def __init__(self) -> None:
        self._count, self._sum = 0, torch.zeros(())

    def update(self, jacobians: Float[Tensor, "site d_model d_model"]) -> None:
        """Take in those of one text."""
        self._step(jacobians=jacobians)

    def _combine(self, jacobians: Float[Tensor, "site d_model d_model"]) -> None:
        self._count, self._sum = self._count + 1, self._sum + jacobians

    @property
    def mean(self) -> Float[Tensor, "site d_model d_model"]:
        """Their mean over texts."""
        return self._sum / self._count

    def state(self) -> dict[str, Shaped[np.ndarray, "..."]]:
        """Everything it holds, as arrays."""
        return {"count": np.array(self._count), "sum": self._sum.numpy()}

    def restore(self, state: dict[str, Shaped[np.ndarray, "..."]]) -> None:
        """Continue from what `state` returned."""
        self._count, self._sum = int(state["count"]), torch.from_numpy(state["sum"])
