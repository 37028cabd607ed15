"""What a model says when components get what they computed for another prompt.

An interchange intervention runs the model on one prompt and puts, at some site, what was computed
there for another one (Geiger et al. 2021, section 3; Vig et al. 2020, section 3). Every row of a
batch has a site and a pair of prompts of its own, so that thousands of sites share few passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from models import Model
from models.passes import Hooks, reading


class Site(NamedTuple):
    """Components that are replaced together, all at one pos."""

    token: str
    """Which token they stand at, by its name in the format (`b2`, `=`, `A3`)."""
    heads: tuple[tuple[int, int], ...] = ()
    """(layer, head) whose z is replaced."""
    mlps: tuple[int, ...] = ()
    """Layers whose mlp_out is replaced."""
    resid: tuple[int, ...] = ()
    """Layers after which the residual stream is replaced."""


@dataclass(frozen=True)
class Activations:
    """What the components of a model computed for some prompts, one tensor a layer."""

    z: list[Float[Tensor, "n pos head d_head"]]
    mlp: list[Float[Tensor, "n pos d_model"]]
    """Empty where the model has no MLPs."""
    resid: list[Float[Tensor, "n pos d_model"]]


@dataclass(frozen=True)
class Said:
    """What a model says at the positions read, one row a site and prompt."""

    token: Int[np.ndarray, "site n read"]
    """The likeliest token."""
    margin: Float[np.ndarray, "site n"]
    """Logit of the second of two tokens minus that of the first, where they are compared."""


@dataclass(frozen=True)
class Reading:
    """Where a model is read, and which two tokens are compared."""

    at: Int[np.ndarray, "n read"]
    """The pos whose logits are read; each prompt has its own."""
    compared: int
    """In which of these reads the two tokens are compared."""
    tokens: Int[np.ndarray, "n 2"]


@torch.inference_mode()
def activations(model: Model, tokens: Int[np.ndarray, "n pos"], batch_size: int) -> Activations:
    """What every head, MLP and residual site computes for the prompts."""
    kinds = {"z": "attn.hook_z", "mlp": "hook_mlp_out", "resid": "hook_resid_post"}
    found: dict[str, list[list[Tensor]]] = {kind: [] for kind in kinds}
    hooks: Hooks = []
    for kind, name in kinds.items():
        layers = [f"blocks.{layer}.{name}" for layer in range(model.cfg.n_layers)]
        layers = [layer for layer in layers if layer in model.hook_dict]
        found[kind] = [[] for _ in layers]
        hooks += [
            (layer, partial(_keep, into)) for layer, into in zip(layers, found[kind], strict=True)
        ]
    for start in range(0, len(tokens), batch_size):
        batch = torch.from_numpy(tokens[start : start + batch_size]).to(model.cfg.device)
        with reading(model, torch.zeros(len(batch), 1, dtype=torch.long, device=batch.device)):
            model.run_with_hooks(batch, fwd_hooks=hooks)
    return Activations(
        **{kind: [torch.cat(parts) for parts in acts] for kind, acts in found.items()}
    )


def _keep(into: list[Tensor], act: Tensor, hook: object) -> None:
    into.append(act.clone())


@torch.inference_mode()
def interchange(
    model: Model,
    tokens: Int[np.ndarray, "n pos"],
    source: Activations,
    sites: Sequence[Site],
    at: Int[np.ndarray, "site n"],
    read: Reading,
    batch_size: int,
) -> Said:
    """What is said about each prompt when each site gets the source's activations of its row.

    `at` is the pos of each site in each prompt.
    """
    masks = _Masks.of(sites, model.cfg.n_layers, model.cfg.n_heads)
    site, row = (axis.ravel() for axis in np.indices(at.shape))
    said, margins = [], []
    for start in range(0, len(site), batch_size):
        chunk = slice(start, start + batch_size)
        hooks = _hooks(masks, site[chunk], row[chunk], at[site[chunk], row[chunk]], source)
        token, margin = _ask(model, tokens, row[chunk], read, hooks)
        said.append(token)
        margins.append(margin)
    shape = (*at.shape, read.at.shape[1])
    return Said(
        torch.cat(said).cpu().numpy().reshape(shape),
        torch.cat(margins).double().cpu().numpy().reshape(at.shape),
    )


def untouched(
    model: Model, tokens: Int[np.ndarray, "n pos"], read: Reading, batch_size: int
) -> Said:
    """What is said when nothing is replaced, as of one site."""
    nothing, nowhere = Activations([], [], []), np.zeros((1, len(tokens)), dtype=int)
    return interchange(model, tokens, nothing, [Site("")], nowhere, read, batch_size)


def _ask(
    model: Model,
    tokens: Int[np.ndarray, "n pos"],
    row: Int[np.ndarray, "row"],
    read: Reading,
    hooks: Hooks,
) -> tuple[Int[Tensor, "row read"], Float[Tensor, "row"]]:
    """The likeliest token at each read, and the margin between the compared tokens."""
    at, pair, batch = (
        torch.from_numpy(np.ascontiguousarray(array[row])).to(model.cfg.device)
        for array in (read.at, read.tokens, tokens)
    )
    with reading(model, at):
        logits = model.run_with_hooks(batch, fwd_hooks=hooks)
    two = logits[:, read.compared].gather(1, pair)
    return logits.argmax(-1), two[:, 1] - two[:, 0]


@dataclass(frozen=True)
class _Masks:
    """Which components each site consists of."""

    z: Bool[np.ndarray, "site layer head"]
    mlp: Bool[np.ndarray, "site layer"]
    resid: Bool[np.ndarray, "site layer"]

    @classmethod
    def of(cls, sites: Sequence[Site], layers: int, heads: int) -> "_Masks":
        z = np.zeros((len(sites), layers, heads), dtype=bool)
        mlp, resid = np.zeros((2, len(sites), layers), dtype=bool)
        for number, site in enumerate(sites):
            for layer, head in site.heads:
                z[number, layer, head] = True
            mlp[number, list(site.mlps)] = True
            resid[number, list(site.resid)] = True
        return cls(z, mlp, resid)


def _hooks(
    masks: _Masks,
    site: Int[np.ndarray, "row"],
    row: Int[np.ndarray, "row"],
    pos: Int[np.ndarray, "row"],
    source: Activations,
) -> Hooks:
    """A hook for every layer and kind of component that any row of a batch replaces."""
    hooks: Hooks = []
    for name, mask, acts in (
        ("attn.hook_z", masks.z, source.z),
        ("hook_mlp_out", masks.mlp[..., None], source.mlp),
        ("hook_resid_post", masks.resid[..., None], source.resid),
    ):
        chosen = mask[site]
        for layer in np.flatnonzero(chosen.any((0, 2))):
            rows = np.flatnonzero(chosen[:, layer].any(1))
            new = acts[layer]
            to = partial(torch.as_tensor, device=new.device)
            change = partial(
                _replace, to(rows), to(pos[rows]), to(chosen[rows, layer]),
                new[to(row[rows]), to(pos[rows])],
            )  # fmt: skip
            hooks.append((f"blocks.{layer}.{name}", change))
    return hooks


def _replace(
    rows: Int[Tensor, "row"],
    pos: Int[Tensor, "row"],
    chosen: Bool[Tensor, "row part"],
    new: Float[Tensor, "row *act"],
    act: Float[Tensor, "batch pos *act"],
    hook: object,
) -> Tensor:
    """Put `new` where it is chosen: heads of z, or a whole vector."""
    wanted = chosen[..., None] if act.ndim == 4 else chosen
    act[rows, pos] = torch.where(wanted, new.to(act.dtype), act[rows, pos])
    return act
