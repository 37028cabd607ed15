"""Passes taken up where they change: of each changed pass only what differs is computed.

A change at (layer, pos) leaves lower layers and earlier positions as they were. Blocks whose parts
are known (queries, keys and values from the normed stream, one causal softmax, heads, MLP) are
recomputed at the positions that change, with the clean keys and values of those before; in the last
block that is at the positions read alone, and a change there needs no attention at all. Whether a
model's blocks are such is measured: the parts must give the clean logits. Of other models whole
blocks are computed, from the first that changes on.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from models import Model
from models.hooked import HAS_BRIDGE
from models.parts import has_child, is_parallel
from models.passes import Hooks, reading, run_from

Rows = slice | Int[np.ndarray, "row"] | Bool[np.ndarray, "n"]
"""Which of some prompts."""

Edit = Callable[[str, int, Tensor, Int[np.ndarray, "pos"]], Tensor]
"""From the kind of a component (`z`, `mlp`, `resid`), its layer, what it computed [row pos *act]
and at which pos, to what goes on."""

HOOKS = {"z": "attn.hook_z", "mlp": "hook_mlp_out", "resid": "hook_resid_post"}
"""Where the kinds of components are seen."""

TURNS = ("attn.hook_cos", "attn.hook_sin")
"""Where rotary positions are seen."""

EXACT = {"float32": 1e-4, "bfloat16": 1e-2, "float16": 1e-2}
"""How far logits of parts may lie from the model's own, as a share of the largest (as in
`models.verification`)."""
CHECKED = 8
"""Prompts on which that is checked."""


@dataclass(frozen=True)
class Change:
    """Passes that change alike: each is of one prompt."""

    row: Int[np.ndarray, "row"]
    """Numbers of the prompts."""
    layer: int
    """The first layer in which something changes."""
    pos: range
    """Where it changes there; in later layers everything from its start on may."""
    edit: Edit


class Resumable:
    """Prompts as a model reads them, from which changed passes are taken up."""

    def __init__(
        self, model: Model, tokens: Int[np.ndarray, "n pos"], at: Int[np.ndarray, "n read"],
        batch_size: int, first: int = 0,
    ) -> None:  # fmt: skip
        """Prompts in which nothing changes before the pos `first`."""
        self.model, self.at, self.batch_size = model, at, batch_size
        self.last, self.device = model.cfg.n_layers - 1, model.cfg.device
        self.pos = np.arange(tokens.shape[1])
        self.first = 0
        """What stands before is kept as keys and values only."""
        self.z: list[Tensor] = []
        self.resid: list[Tensor] = []
        """What enters each layer [n pos d_model], from `first` on."""
        self.turns: list[list[Tensor]] = []
        """Cosines, then sines, of rotary positions in each layer [1 pos d_head]; empty without."""
        self.logits = self._read(tokens)
        """Clean, at each read [n read vocab]."""
        self.parts = self._parts()
        if self.parts:  # whole blocks need whole streams
            self._keep_from(first)

    def __len__(self) -> int:
        return len(self.at)

    def __getitem__(self, rows: Rows) -> "Resumable":
        """Some of the prompts, which need not be read again."""
        some = copy(self)
        some.at, some.logits = self.at[rows], self.logits[rows]
        some.z, some.resid = ([act[rows] for act in acts] for acts in (self.z, self.resid))
        some.parts = self.parts[rows] if self.parts else None
        return some

    def joined(self, more: "Resumable") -> "Resumable":
        """These prompts and then those."""
        both, pairs = copy(self), [(self.z, more.z), (self.resid, more.resid)]
        both.at = np.concatenate([self.at, more.at])
        both.logits = torch.cat([self.logits, more.logits])
        both.z, both.resid = ([torch.cat(x) for x in zip(*acts, strict=True)] for acts in pairs)
        both.parts = self.parts and more.parts and self.parts.joined(more.parts)
        return both

    @torch.inference_mode()
    def _read(self, tokens: Int[np.ndarray, "n pos"]) -> Float[Tensor, "n read vocab"]:
        layers = range(self.last + 1)
        turns = [name for name in TURNS if f"blocks.0.{name}" in self.model.hook_dict]
        kept: dict[str, list[list[Tensor]]] = {
            name: [[] for _ in layers] for name in ("attn.hook_z", "hook_resid_pre", *turns)
        }
        hooks: Hooks = [
            (f"blocks.{layer}.{name}", partial(_keep, into[layer]))
            for name, into in kept.items()
            for layer in layers
        ]
        logits = []
        for start in range(0, len(tokens), self.batch_size):
            chunk = slice(start, start + self.batch_size)
            with reading(self.model, self._to(self.at[chunk])):
                logits.append(self.model.run_with_hooks(self._to(tokens[chunk]), fwd_hooks=hooks))
        self.turns = [[parts[0] for parts in kept.pop(name)] for name in turns]
        self.z, self.resid = ([torch.cat(parts) for parts in acts] for acts in kept.values())
        return torch.cat(logits)

    @torch.inference_mode()
    def _parts(self) -> "_Parts | None":
        """The parts of the model's blocks, if they give its clean logits."""
        if not _Parts.are_known(self.model, self.turns):
            return None
        parts = _Parts(self.model, self.resid, self.turns)
        some = np.arange(len(self.at))[:CHECKED]
        every = Change(some, 0, range(len(self.pos)), _nothing)
        expected = self.logits[: len(some)]
        off = self._of_parts(parts, every, new=self.resid[0][: len(some)]) - expected
        exact = EXACT[str(expected.dtype).removeprefix("torch.")]
        return parts if bool(off.abs().max() <= exact * expected.abs().max()) else None

    def _keep_from(self, first: int) -> None:
        self.first = self.parts.first = first
        for acts in (self.z, self.resid, self.parts.q):
            acts[:] = [act[:, first:].clone() for act in acts]

    @torch.inference_mode()
    def changed(self, change: Change) -> Float[Tensor, "row read vocab"]:
        """Logits at each read when that changes."""
        if change.pos.start < self.first:
            raise ValueError(f"pos {change.pos.start} was not kept; the first kept is {self.first}")
        reached = self.at[change.row] >= change.pos.start
        if change.layer == self.last:
            reached &= self.at[change.row] < change.pos.stop
        if not reached.any():
            return self.logits[self._to(change.row)]
        return self._of_parts(self.parts, change) if self.parts else self._of_blocks(change)

    def _of_blocks(self, change: Change) -> Float[Tensor, "row read vocab"]:
        """By whole blocks, from the first that changes."""
        hooks: Hooks = [
            (f"blocks.{layer}.{name}", partial(self._edited, change.edit, kind, layer))
            for layer in range(change.layer, self.last + 1)
            for kind, name in HOOKS.items()
            if f"blocks.{layer}.{name}" in self.model.hook_dict
        ]
        resid = self.resid[change.layer][self._to(change.row)]
        with reading(self.model, self._to(self.at[change.row])):
            return run_from(self.model, change.layer, resid, hooks)

    def _edited(self, edit: Edit, kind: str, layer: int, act: Tensor, hook: object) -> Tensor:
        return edit(kind, layer, act, self.pos)

    def _of_parts(self, parts: "_Parts", change: Change, new: Tensor | None = None) -> Tensor:
        """By the parts of blocks, at the positions that change; `new` streams enter already so."""
        rows, reads = self._to(change.row), np.unique(self.at[change.row])
        start, stop = change.pos.start, min(change.pos.stop, int(reads[-1]) + 1)
        for layer in range(change.layer, self.last + 1):
            if new is not None:
                stop = int(reads[-1]) + 1  # whatever stands later may look at what has changed
            pos = np.arange(start, stop)
            if layer == self.last:
                pos = reads[(reads >= start) & (reads < stop)]
            kept = rows[:, None], self._to(pos - self.first)
            stream = self.resid[layer][kept]
            if new is None:
                z = self.z[layer][kept]
            else:
                z = parts.attended(layer, rows, new, start, pos)
                stream = _placed(stream, new, start, self._to(pos))
            new = parts.block(layer, z, stream, partial(_at, change.edit, layer, pos))
        return self._said(change.row, pos, parts.logits(new))

    def _said(
        self, row: Int[np.ndarray, "row"], pos: Int[np.ndarray, "pos"], logits: Tensor
    ) -> Float[Tensor, "row read vocab"]:
        """Clean logits, and in their place the changed ones of the pos [row pos vocab]."""
        at = self.at[row]
        if at.shape[1] == len(pos) and (at == pos).all():  # of a large vocabulary each copy counts
            return logits
        index = np.searchsorted(pos, at).clip(max=len(pos) - 1)
        rows, reads = np.nonzero(pos[index] == at)
        said, where = self.logits[self._to(row)], self._to(rows)
        said[where, self._to(reads)] = logits[where, self._to(index[rows, reads])]
        return said

    def _to(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


def alike(keys: Int[np.ndarray, "key row"], batch_size: int) -> Iterator[Int[np.ndarray, "some"]]:
    """Numbers of rows whose keys are all equal, so many at a time."""
    order = np.lexsort(keys)
    starts = np.flatnonzero(np.diff(keys[:, order], axis=1).any(0)) + 1
    for group in np.split(order, starts):
        yield from np.split(group, range(batch_size, len(group), batch_size))


def _nothing(kind: str, layer: int, act: Tensor, pos: Int[np.ndarray, "pos"]) -> Tensor:
    return act


def _at(edit: Edit, layer: int, pos: Int[np.ndarray, "pos"], kind: str, act: Tensor) -> Tensor:
    return edit(kind, layer, act, pos)


def _bare(part: Any) -> Any:
    """The module that a bridge wraps: its hooks cost more than a small product, and none is set."""
    return getattr(part, "original_component", part)


def _keep(into: list[Tensor], act: Tensor, hook: object) -> None:
    into.append(act.clone())


def _placed(
    clean: Float[Tensor, "row pos *act"],
    new: Float[Tensor, "row new *act"],
    start: int,
    pos: Int[Tensor, "pos"],
) -> Float[Tensor, "row pos *act"]:
    """What is there at each pos: of those from `start` on that are new, the new."""
    is_new = (pos >= start) & (pos < start + new.shape[1])
    shown = new[:, (pos - start).clamp(0, new.shape[1] - 1)]
    return torch.where(is_new.view(1, -1, *[1] * (clean.ndim - 2)), shown, clean)


def _z(
    q: Float[Tensor, "row query head d_head"],
    k: Float[Tensor, "row key_head d_head key"],
    v: Float[Tensor, "row key_head key d_head"],
    later: Bool[Tensor, "query key"],
) -> Float[Tensor, "row query head d_head"]:
    """What heads read; several in turn may share keys and values."""
    shared = {"group": q.shape[2] // k.shape[1], "query": q.shape[1]}
    q = rearrange(q, "row query (head group) d -> row head (group query) d", **shared)
    scores = q @ k / q.shape[-1] ** 0.5
    scores = rearrange(scores, "row head (group query) key -> row head group query key", **shared)
    pattern = scores.masked_fill(later, -torch.inf).softmax(dim=-1, dtype=torch.float32)
    z = pattern.to(v.dtype).flatten(2, 3) @ v
    return rearrange(z, "row head (group query) d -> row query (head group) d", **shared)


class _Projected(NamedTuple):
    """Queries, keys and values of a layer; keys and values as products read them: in one piece."""

    q: Float[Tensor, "row pos head d_head"]
    k: Float[Tensor, "row key_head d_head pos"]
    v: Float[Tensor, "row key_head pos d_head"]


class _Parts:
    """What a model's blocks are made of, with learned or rotary positions; what they computed."""

    def __init__(
        self,
        model: Model,
        resid: Sequence[Float[Tensor, "n pos d_model"]],
        turns: Sequence[Sequence[Float[Tensor, "1 pos d_head"]]],
    ) -> None:
        self.model: Any = model
        self.turns = turns
        self.first = 0
        """The first pos of which queries are kept."""
        clean = [self._projected(layer, stream, 0) for layer, stream in enumerate(resid)]
        self.q, self.k, self.v = (list(part) for part in zip(*clean, strict=True))

    @staticmethod
    def are_known(model: Model, turns: Sequence[Sequence[Tensor]]) -> bool:
        """Whether a model is of the kind for which this is worth a try."""
        has_parts = all(hasattr(model.blocks[0].attn, name) for name in "qkvo")
        is_learned = model.cfg.positional_embedding_type == "standard"
        is_turned = bool(turns) and turns[0][0].shape[-1] == model.cfg.d_head
        return HAS_BRIDGE and has_parts and not is_parallel(model) and (is_learned or is_turned)

    def __getitem__(self, rows: Rows) -> "_Parts":
        some, kinds = copy(self), (self.q, self.k, self.v)
        some.q, some.k, some.v = ([act[rows] for act in acts] for acts in kinds)
        return some

    def joined(self, more: "_Parts") -> "_Parts":
        both = copy(self)
        pairs = ((self.q, more.q), (self.k, more.k), (self.v, more.v))
        both.q, both.k, both.v = ([torch.cat(x) for x in zip(*acts, strict=True)] for acts in pairs)
        return both

    def _projected(
        self, layer: int, stream: Float[Tensor, "row pos d_model"], start: int
    ) -> _Projected:
        """Queries, keys and values at every pos from `start` on."""
        block = self.model.blocks[layer]
        normed = _bare(block.ln1)(stream) if has_child(block, "ln1") else stream
        found = []
        for project in (block.attn.q, block.attn.k, block.attn.v):
            wide = _bare(project)(normed)
            wide = rearrange(wide, "row pos (h d) -> row pos h d", d=self.model.cfg.d_head)
            if project is not block.attn.v:
                wide = self._turned(layer, wide, start)
            found.append(wide)
        axes = ("row pos head d -> row head d pos", "row pos head d -> row head pos d")
        k, v = (rearrange(x, to).contiguous() for x, to in zip(found[1:], axes, strict=True))
        return _Projected(found[0], k, v)

    def _turned(
        self, layer: int, wide: Float[Tensor, "row pos head d_head"], start: int
    ) -> Float[Tensor, "row pos head d_head"]:
        """Queries or keys turned by their pos, in a model with rotary positions."""
        if not self.turns:
            return wide
        stop = start + wide.shape[1]
        cos, sin = (by_layer[layer][:, start:stop, None] for by_layer in self.turns)
        first, second = wide.chunk(2, dim=-1)
        return wide * cos + torch.cat([-second, first], dim=-1) * sin

    def attended(
        self,
        layer: int,
        rows: Int[Tensor, "row"],
        new: Float[Tensor, "row new d_model"],
        start: int,
        pos: Int[np.ndarray, "pos"],
    ) -> Float[Tensor, "row pos head d_head"]:
        """z at some pos in order, where streams from `start` on are new.

        Keys and values are those up to the last pos; what lies beyond is seen by none.
        """
        changed = self._projected(layer, new, start)
        at, stop = torch.from_numpy(pos).to(new.device), int(pos[-1]) + 1
        there, known = slice(start, start + new.shape[1]), max(0, stop - start)
        q = _placed(self.q[layer][rows[:, None], at - self.first], changed.q, start, at)
        k, v = self.k[layer][rows, ..., :stop], self.v[layer][rows, :, :stop]
        k[..., there], v[:, :, there] = changed.k[..., :known], changed.v[:, :, :known]
        return _z(q, k, v, torch.arange(stop, device=new.device) > at[:, None])

    def block(
        self,
        layer: int,
        z: Float[Tensor, "row pos head d_head"],
        stream: Float[Tensor, "row pos d_model"],
        edit: Callable[[str, Tensor], Tensor],
    ) -> Float[Tensor, "row pos d_model"]:
        """What leaves a block at some pos."""
        block = self.model.blocks[layer]
        stream = stream + _bare(block.attn.o)(edit("z", z).flatten(-2).contiguous())
        if has_child(block, "mlp"):
            normed = _bare(block.ln2)(stream) if has_child(block, "ln2") else stream
            stream = stream + edit("mlp", _bare(block.mlp)(normed))
        return edit("resid", stream)

    def logits(self, stream: Float[Tensor, "row pos d_model"]) -> Float[Tensor, "row pos vocab"]:
        """What last states say."""
        normed = self.model.ln_final(stream) if has_child(self.model, "ln_final") else stream
        return self.model.unembed(normed)
