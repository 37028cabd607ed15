"""What a head tells one MLP, by itself: path patching of single edges (SCIENCE 6).

The MLP of a layer is given its own input, except that one head's result is the one of the source
(path patching: Goldowsky-Dill et al. 2023, section 3). The norm before the MLP is frozen at its
clean scale, so that heads' shares of the input add up. All else stays clean until the MLP writes.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from lenses.addition.contrasts import Contrast
from lenses.addition.roles import is_large
from lenses.addition.sets import heads_of
from lenses.patching.interchange import Activations, activations, untouched
from lenses.statistics.intervals import wilson
from models import Model
from models.parts import AttentionOut, FinalNorm, attention_out, is_parallel, mlp_norms
from models.passes import reading


class Edge(NamedTuple):
    """From a head to the MLP of its own layer or of a later one."""

    layer: int
    head: int
    mlp: int


def every_edge(model: Model) -> list[Edge]:
    """All of them; none where a model has no MLPs, or MLPs that read beside the attention."""
    if is_parallel(model) or model.cfg.attn_only:
        return []
    layers, heads = range(model.cfg.n_layers), range(model.cfg.n_heads)
    return [Edge(layer, head, mlp) for layer in layers for head in heads for mlp in layers[layer:]]


def edges_of(model: Model, sets: Iterable[str]) -> list[Edge]:
    """Every edge; of a large model those from the heads of these sets."""
    if not is_large(model):
        return every_edge(model)
    heads = {head for members in sets for head in heads_of(members)}
    return [edge for edge in every_edge(model) if (edge.layer, edge.head) in heads]


@torch.inference_mode()
def through_edges(
    model: Model, found: Contrast, edges: Sequence[Edge], batch_size: int
) -> Int[np.ndarray, "edge n read"]:
    """What is said when one edge, at the pos that is read, carries what it does in the source."""
    pos = torch.from_numpy(found.read.at[:, found.cell.read_place]).to(model.cfg.device)
    delta = _deltas(model, found, pos, batch_size)
    number, row = (axis.ravel() for axis in np.indices((len(edges), len(found))))
    said = []
    for start in range(0, len(number), batch_size):
        chunk = slice(start, start + batch_size)
        own = [edges[i] for i in number[chunk]]
        rows = torch.from_numpy(row[chunk]).to(pos.device)
        layer, head, mlp = (torch.tensor(x, device=pos.device) for x in zip(*own, strict=True))
        change = _Change(pos[rows], delta[layer, rows, head], mlp)
        tokens, at = (
            torch.from_numpy(array[row[chunk]]).to(pos.device)
            for array in (found.clean, found.read.at)
        )
        with reading(model, at), change.to_mlps(model, {edge.mlp for edge in own}):
            said.append(model(tokens).argmax(-1))
    return torch.cat(said).cpu().numpy().reshape(len(edges), *found.read.at.shape)


def edge_table(
    model: Model, found: Contrast, edges: Sequence[Edge], batch_size: int
) -> pd.DataFrame:
    """Flips of the digit that is read, by the source's value of each edge alone."""
    cell = found.cell
    if not edges:
        return pd.DataFrame()
    said = through_edges(model, found, edges, batch_size)[:, :, cell.read_place]
    before = untouched(model, found.clean, found.read, batch_size).token[0, :, cell.read_place]
    target = found.read.tokens[:, 1]
    flips = ((said == target) & (before != target)).sum(1)
    low, high = wilson(flips, np.full(len(edges), len(found)))
    what = {"pair": cell.pair, "run": cell.run, "read_place": cell.read_place}
    return pd.DataFrame(edges).assign(
        **what, flip=flips / len(found), low=low, high=high, n=len(found)
    )


def _deltas(
    model: Model, found: Contrast, pos: Int[Tensor, "n"], batch_size: int
) -> Float[Tensor, "layer n head d_model"]:
    """How each head's result differs between source and clean, at the pos that is read."""
    out, rows = attention_out(model), torch.arange(len(pos), device=pos.device)
    clean, source = (
        _at(activations(model, tokens, batch_size), rows, pos)
        for tokens in (found.clean, found.source)
    )
    axes = "layer n head d_head, layer head d_head d_model -> layer n head d_model"
    delta = einsum(source - clean, torch.stack(out.W_O), axes)
    return delta if out.post_gain is None else delta * _post_scale(out, clean)[:, :, None]


def _at(
    acts: Activations, rows: Int[Tensor, "n"], pos: Int[Tensor, "n"]
) -> Float[Tensor, "layer n head d_head"]:
    return torch.stack([z[rows, pos] for z in acts.z])


def _post_scale(
    out: AttentionOut, clean: Float[Tensor, "layer n head d_head"]
) -> Float[Tensor, "layer n d_model"]:
    """What a norm after attention, frozen at the clean prompt, multiplies results with."""
    axes = "layer n head d_head, layer head d_head d_model -> layer n d_model"
    raw = einsum(clean, torch.stack(out.W_O), axes) + out.b_O[:, None]
    rms = (raw.square().mean(-1, keepdim=True) + out.post_eps).sqrt()
    return out.post_gain[:, None] / rms


class _Change:
    """What is added to the input of one MLP in each row of a batch."""

    def __init__(
        self, pos: Int[Tensor, "row"], delta: Float[Tensor, "row d_model"], mlp: Int[Tensor, "row"]
    ) -> None:
        self.pos, self.delta, self.mlp = pos, delta, mlp
        self.rows = torch.arange(len(pos), device=pos.device)

    @contextmanager
    def to_mlps(self, model: Any, layers: set[int]) -> Iterator[None]:
        """While this is open, those MLPs read the changed input, at the clean norm's scale."""
        norms = mlp_norms(model)
        with ExitStack() as stack:
            for layer in layers:
                before: list[Tensor] = []
                block = model.blocks[layer]
                keep = block.ln2.register_forward_pre_hook(partial(_keep, before))
                add = block.mlp.register_forward_pre_hook(
                    partial(self._add, layer, norms[layer], before)
                )
                stack.callback(keep.remove)
                stack.callback(add.remove)
            yield

    def _add(
        self, layer: int, norm: FinalNorm, before: list[Tensor], mlp: Any, inputs: tuple
    ) -> tuple:
        """A share of the norm's input, at the scale of the whole."""
        new, share = inputs[0].clone(), self.delta
        here = before[-1][self.rows, self.pos].float()
        if norm.kind == "LN":
            share, here = (x - x.mean(-1, keepdim=True) for x in (share, here))
        if norm.kind is not None:
            share = share * torch.rsqrt(here.square().mean(-1, keepdim=True) + norm.eps)
        share = share * norm.gain * (self.mlp == layer)[:, None]
        new[self.rows, self.pos] += share.to(new.dtype)
        return (new, *inputs[1:])


def _keep(before: list[Tensor], norm: Any, inputs: tuple) -> None:
    before[:] = [inputs[0]]
