"""What a head tells one MLP, by itself: path patching of single edges (SCIENCE 6).

The MLP of a layer is given its own input, except that one head's result is the one of the source
(path patching: Goldowsky-Dill et al. 2023, section 3). The norm before the MLP is frozen at its
clean scale, so that heads' shares of the input add up. All else stays clean until the MLP writes.
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from lenses.addition.contrasts import Contrast
from lenses.addition.exchanges import Exchanges
from lenses.addition.roles import is_large
from lenses.addition.sets import heads_of
from lenses.patching.resumed import Change, alike
from lenses.statistics.intervals import wilson
from models import Model
from models.parts import AttentionOut, attention_out, is_parallel, mlp_norms
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
    model: Model, pairs: Exchanges, edges: Sequence[Edge]
) -> Int[np.ndarray, "edge n read"]:
    """What is said when one edge, at the pos that is read, carries what it does in the source."""
    clean, found = pairs.clean, pairs.found
    at = pairs.read.at[:, pairs.read.compared]
    pos = torch.from_numpy(at).to(model.cfg.device)
    delta, mlps = _deltas(model, pairs, pos), _Mlps(model, found, pos, clean.batch_size)
    number, row = (axis.ravel() for axis in np.indices((len(edges), len(found))))
    layer, head, mlp = np.array(edges).T[:, number]
    said, order = [], []
    for which in alike(np.stack([mlp, at[row]]), clean.batch_size):
        rows, *of = (torch.from_numpy(x[which]).to(pos.device) for x in (row, layer, head))
        into, start = int(mlp[which[0]]), int(at[row[which[0]]])
        new = mlps.told(into, rows, delta[of[0], rows, of[1]])
        edit = partial(_put, into, start, new)
        change = Change(row[which], into, range(start, start + 1), edit)
        said.append(clean.changed(change).argmax(-1))
        order.append(which)
    back = np.argsort(np.concatenate(order))
    return torch.cat(said).cpu().numpy()[back].reshape(len(edges), *pairs.read.at.shape)


def _put(
    mlp: int, start: int, new: Float[Tensor, "row d_model"], kind: str, layer: int,
    act: Tensor, pos: Int[np.ndarray, "pos"],
) -> Tensor:  # fmt: skip
    """Another output of one MLP at one pos."""
    if kind == "mlp" and layer == mlp:
        act[:, np.flatnonzero(pos == start)] = new[:, None].to(act.dtype)
    return act


def edge_table(model: Model, pairs: Exchanges, edges: Sequence[Edge]) -> pd.DataFrame:
    """Flips of the digit that is read, by the source's value of each edge alone."""
    cell, n = pairs.found.cell, len(pairs)
    if not edges:
        return pd.DataFrame()
    flips = pairs.flipped(through_edges(model, pairs, edges)).sum(1)
    low, high = wilson(flips, np.full(len(edges), n))
    what = {"pair": cell.pair, "run": cell.run, "read_place": cell.read_place}
    return pd.DataFrame(edges).assign(**what, flip=flips / n, low=low, high=high, n=n)


def _deltas(
    model: Model, pairs: Exchanges, pos: Int[Tensor, "n"]
) -> Float[Tensor, "layer n head d_model"]:
    """How each head's result differs between source and clean, at the pos that is read."""
    out, rows = attention_out(model), torch.arange(len(pos), device=pos.device)
    clean, source = (
        torch.stack([z[rows, pos - acts.first] for z in acts.z])
        for acts in (pairs.clean, pairs.source)
    )
    axes = "layer n head d_head, layer head d_head d_model -> layer n head d_model"
    delta = einsum(source - clean, torch.stack(out.W_O), axes)
    return delta if out.post_gain is None else delta * _post_scale(out, clean)[:, :, None]


def _post_scale(
    out: AttentionOut, clean: Float[Tensor, "layer n head d_head"]
) -> Float[Tensor, "layer n d_model"]:
    """What a norm after attention, frozen at the clean prompt, multiplies results with."""
    axes = "layer n head d_head, layer head d_head d_model -> layer n d_model"
    raw = einsum(clean, torch.stack(out.W_O), axes) + out.b_O[:, None]
    rms = (raw.square().mean(-1, keepdim=True) + out.post_eps).sqrt()
    return out.post_gain[:, None] / rms


class _Mlps:
    """What each MLP of the clean prompts read at one pos, and the stream before its norm."""

    def __init__(self, model: Any, found: Contrast, pos: Int[Tensor, "n"], batch_size: int) -> None:
        self.model, self.norms = model, mlp_norms(model)
        layers = range(model.cfg.n_layers)
        before, read = ([[] for _ in layers], [[] for _ in layers])
        with ExitStack() as stack:
            for layer, block in enumerate(model.blocks):
                for part, into in ((block.ln2, before), (block.mlp, read)):
                    keep = part.register_forward_pre_hook(partial(_keep, into[layer]))
                    stack.callback(keep.remove)
            for some in np.split(found.clean, range(batch_size, len(found), batch_size)):
                batch = torch.from_numpy(some).to(pos.device)
                with reading(model, batch[:, :0]):
                    model(batch)
        rows = torch.arange(len(pos), device=pos.device)
        self.before, self.read = (
            [torch.cat(parts)[rows, pos] for parts in kept] for kept in (before, read)
        )

    def told(
        self, layer: int, rows: Int[Tensor, "row"], share: Float[Tensor, "row d_model"]
    ) -> Float[Tensor, "row d_model"]:
        """What an MLP makes of its input and a share of the norm's, at the scale of the whole."""
        norm, here = self.norms[layer], self.before[layer][rows].float()
        share = norm.centred(share) / norm.scale(here) * norm.gain.float()
        return self.model.blocks[layer].mlp(
            (self.read[layer][rows] + share.to(self.read[layer]))[:, None]
        )[:, 0]


def _keep(into: list[Tensor], part: Any, inputs: tuple) -> None:
    into.append(inputs[0])
