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

from lenses.patching.resumed import HOOKS, Change, Resumable, Rows, alike
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
    first: int = 0
    """The first pos that was kept."""

    def __getitem__(self, rows: Rows) -> "Activations":
        """Those of some of the prompts."""
        kinds = (self.z, self.mlp, self.resid)
        return Activations(*([act[rows] for act in acts] for acts in kinds), self.first)

    def joined(self, more: "Activations") -> "Activations":
        """Those of these prompts and then of those."""
        kinds = ((self.z, more.z), (self.mlp, more.mlp), (self.resid, more.resid))
        cat = ([torch.cat(x) for x in zip(*kind, strict=True)] for kind in kinds)
        return Activations(*cat, self.first)


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

    def alone(self) -> "Reading":
        """Where two tokens are compared, and nowhere else."""
        return Reading(self.at[:, [self.compared]], 0, self.tokens)


def activations(model: Model, tokens: Int[np.ndarray, "n pos"], batch_size: int) -> Activations:
    """What every head, MLP and residual site computes for the prompts."""
    return activations_and_logits(model, tokens, tokens[:, :0], batch_size)[0]


@torch.inference_mode()
def activations_and_logits(
    model: Model,
    tokens: Int[np.ndarray, "n pos"],
    at: Int[np.ndarray, "n read"],
    batch_size: int,
    first: int = 0,
) -> tuple[Activations, Float[Tensor, "n read vocab"]]:
    """The same, kept from the pos `first` on, and in the same pass the logits at some pos."""
    found: dict[str, list[list[Tensor]]] = {}
    hooks: Hooks = []
    for kind, name in HOOKS.items():
        layers = [f"blocks.{layer}.{name}" for layer in range(model.cfg.n_layers)]
        layers = [layer for layer in layers if layer in model.hook_dict]
        found[kind] = [[] for _ in layers]
        hooks += [
            (layer, partial(_keep, into, first))
            for layer, into in zip(layers, found[kind], strict=True)
        ]
    logits = []
    for start in range(0, len(tokens), batch_size):
        chunk = slice(start, start + batch_size)
        batch, reads = (torch.from_numpy(x[chunk]).to(model.cfg.device) for x in (tokens, at))
        with reading(model, reads):
            logits.append(model.run_with_hooks(batch, fwd_hooks=hooks))
    acts = {kind: [torch.cat(parts) for parts in layers] for kind, layers in found.items()}
    return Activations(**acts, first=first), torch.cat(logits)


def _keep(into: list[Tensor], first: int, act: Tensor, hook: object) -> None:
    into.append(act[:, first:].clone())


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
    return exchanged(Resumable(model, tokens, read.at, batch_size), source, sites, at, read)


@torch.inference_mode()
def exchanged(
    clean: Resumable,
    source: Activations,
    sites: Sequence[Site],
    at: Int[np.ndarray, "site n"],
    read: Reading,
) -> Said:
    """`interchange` in prompts that were read before.

    Rows that change at the same layer and pos share passes, of which only what changes is computed.
    """
    masks = _Masks.of(sites, clean.model.cfg.n_layers, clean.model.cfg.n_heads)
    site, row = (axis.ravel() for axis in np.indices(at.shape))
    first, pos = masks.first_layer()[site], at.ravel()
    said, order = [], []
    for which in alike(np.stack([first, pos]), clean.batch_size):
        layer, start = int(first[which[0]]), int(pos[which[0]])
        edit = _Exchange(masks, site[which], row[which], pos[which], source)
        change = Change(row[which], layer, range(start, start + 1), edit)
        said.append(_said(clean.changed(change), read, row[which]))
        order.append(which)
    return _in_order(said, np.concatenate(order), at.shape)


@torch.inference_mode()
def untouched(
    model: Model, tokens: Int[np.ndarray, "n pos"], read: Reading, batch_size: int
) -> Said:
    """What is said when nothing is replaced, as of one site."""
    said, rows = [], np.arange(len(tokens))
    for start in range(0, len(tokens), batch_size):
        row = rows[start : start + batch_size]
        at, batch = (torch.from_numpy(x[row]).to(model.cfg.device) for x in (read.at, tokens))
        with reading(model, at):
            said.append(_said(model(batch), read, row))
    return _in_order(said, rows, (1, len(tokens)))


def said_at_once(logits: Float[Tensor, "n read vocab"], read: Reading) -> Said:
    """What logits of all prompts say, as of one site."""
    rows = np.arange(len(logits))
    return _in_order([_said(logits, read, rows)], rows, (1, len(rows)))


def _said(
    logits: Float[Tensor, "row read vocab"], read: Reading, row: Int[np.ndarray, "row"]
) -> tuple[Int[Tensor, "row read"], Float[Tensor, "row"]]:
    """The likeliest token at each read, and the margin between the compared tokens."""
    pair = torch.from_numpy(np.ascontiguousarray(read.tokens[row])).to(logits.device)
    two = logits[:, read.compared].gather(1, pair)
    return logits.argmax(-1), two[:, 1] - two[:, 0]


def _in_order(
    said: list[tuple[Tensor, Tensor]], order: Int[np.ndarray, "row"], shape: tuple[int, ...]
) -> Said:
    """Rows as they were asked for, by site and prompt."""
    back = np.argsort(order)
    token, margin = (torch.cat(kind).cpu() for kind in zip(*said, strict=True))
    token, margin = token.numpy()[back], margin.double().numpy()[back]
    return Said(token.reshape(*shape, -1), margin.reshape(shape))


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

    def first_layer(self) -> Int[np.ndarray, "site"]:
        """The first layer in which each site replaces something; 0 where it replaces nothing."""
        return (self.z.any(2) | self.mlp | self.resid).argmax(1)


class _Exchange:
    """Puts the source's activations where each row of a batch has its site.

    No dataclass: TransformerLens writes out each hook's owner, which would print every number.
    """

    def __init__(
        self, masks: _Masks, site: Int[np.ndarray, "row"], row: Int[np.ndarray, "row"],
        at: Int[np.ndarray, "row"], source: Activations,
    ) -> None:  # fmt: skip
        self.chosen = {
            "z": masks.z[site], "mlp": masks.mlp[site][..., None],
            "resid": masks.resid[site][..., None],
        }  # fmt: skip
        self.row, self.at, self.source = row, at, source

    def __call__(
        self, kind: str, layer: int, act: Float[Tensor, "row pos *act"], pos: np.ndarray
    ) -> Float[Tensor, "row pos *act"]:
        """Activations with those of the source in place; heads of z, or a whole vector."""
        chosen = self.chosen[kind][:, layer]
        index = np.searchsorted(pos, self.at).clip(max=len(pos) - 1)
        rows = np.flatnonzero(chosen.any(1) & (pos[index] == self.at))
        if not len(rows):
            return act
        to = partial(torch.as_tensor, device=act.device)
        here = to(rows), to(index[rows])
        kept = to(self.row[rows]), to(self.at[rows] - self.source.first)
        new = getattr(self.source, kind)[layer][kept]
        wanted = to(chosen[rows])
        wanted = wanted[..., None] if act.ndim == 4 else wanted
        act[here] = torch.where(wanted, new.to(act.dtype), act[here])
        return act
