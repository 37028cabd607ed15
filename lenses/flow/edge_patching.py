"""What flows along single edges of attention, from an adjective to its noun (SCIENCE 3).

Two texts differ in the adjective alone. In the first, what a head moves from the adjective to the
noun is exchanged for what the second has there: z_i += alpha_ij (v'_j - v_j), for the noun's pos i
and the adjective's pos j. Only values are exchanged (path patching of one edge, Goldowsky-Dill et
al. 2023, section 3, also exchanges the key): alpha is the head's in the pass that is patched, and
whatever else the noun reads stays that of the first text.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from einops import einsum, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lenses.flow.descriptions import Case
from models import Model
from models.passes import Hooks, reading, run_from

PATCHED = ("all", "edge", "control", "control edge")
"""Which adjective is exchanged: the noun's own, in the text or in what flows along the edge; that
of a control, in the text or along the edge to the same noun there."""


@dataclass(frozen=True)
class EdgeReading:
    """One case: what the noun attends to, and how far its state moves."""

    attention: Float[np.ndarray, "reading layer head"]
    """From the noun's last token to all tokens of the adjective."""
    along: Float[np.ndarray, "patched layer"]
    """Movement of the state after each block along that of "all", as a share of it (<m, a> /
    norm(a)^2); mean over controls; NaN where "all" does not move."""
    length: Float[np.ndarray, "patched layer"]
    """Length of the movement over that of the state before it; mean over controls."""


@torch.inference_mode()
def read_edges(model: Model, case: Case) -> EdgeReading:
    """Attention and movements, in two forward passes of a few rows."""
    device = model.cfg.device
    both = _Both(case, device)
    model.run_with_hooks(both.rows, return_type=None, fwd_hooks=both.hooks(model.cfg.n_layers))
    clean, changed = torch.stack(both.states).double().chunk(2, dim=1)
    patched = _patched(model, both).double()
    moves = torch.stack([changed, patched]) - clean
    aim = moves[0, :, 0]  # of the noun in the first reading, which is its own
    power = aim.square().sum(-1)
    along = einsum(
        moves, aim, "text_or_edge layer reading d, layer d -> text_or_edge layer reading"
    )
    along = along / torch.where(power > 0, power, torch.nan)[:, None]
    length = moves.norm(dim=-1) / clean.norm(dim=-1)
    return EdgeReading(
        torch.stack(both.attention, dim=1).double().cpu().numpy(),
        _own_then_controls(along),
        _own_then_controls(length),
    )


def _own_then_controls(
    values: Float[Tensor, "text_or_edge layer reading"],
) -> Float[np.ndarray, "patched layer"]:
    """In the order of PATCHED."""
    found = torch.cat([values[:, :, 0], values[:, :, 1:].mean(-1)])
    return found.cpu().numpy()


@torch.inference_mode()
def each_edge(model: Model, case: Case) -> Float[np.ndarray, "layer edge"]:
    """Movement of the last state along "all", when one head's edge is exchanged, as a share of it.

    The last column exchanges the edges of all heads of a layer. Blocks before it are not run.
    """
    both = _Both(case, model.cfg.device, keep=True)
    layers = model.cfg.n_layers
    model.run_with_hooks(both.rows, return_type=None, fwd_hooks=both.hooks(layers))
    final = both.states[-1].double()
    clean, aim = final[0], final[len(case.clean)] - final[0]
    heads = both.attention[0].shape[-1]
    chosen = torch.cat([torch.eye(heads), torch.ones(1, heads)]).to(both.rows.device)
    own = both.own(len(chosen))
    shares = []
    for layer, resid_pre in enumerate(both.resid_pre):
        edit, last = _Edit(own, both.delta[layer][:1], chosen), []
        seen = (f"blocks.{layers - 1}.hook_resid_post", partial(_at, last, own.at))
        with reading(model, own.at[:, None]):
            run_from(
                model,
                layer,
                resid_pre.expand(len(chosen), -1, -1).clone(),
                [*edit.hooks(layer), seen],
            )
        shares.append((last[0].double() - clean) @ aim / aim.square().sum())
    return torch.stack(shares).cpu().numpy()


@dataclass(frozen=True)
class _Where:
    """Rows of a batch: where the noun is, where it is read, and its adjective's pos."""

    noun: Bool[Tensor, "row pos"]
    at: Int[Tensor, "row"]
    adjective: Int[Tensor, "part"]


class _Both:
    """All readings of a case, clean and then changed, being read in one pass."""

    def __init__(self, case: Case, device: torch.device, *, keep: bool = False) -> None:
        self.rows = torch.from_numpy(np.concatenate([case.clean, case.changed])).to(device)
        self.where = _Where(
            *(torch.from_numpy(x).to(device) for x in (case.noun, case.at, case.adjective))
        )
        self.keep = keep
        self.attention: list[Float[Tensor, "reading head"]] = []
        self.delta: list[Float[Tensor, "reading part kv d_head"]] = []
        self.states: list[Float[Tensor, "row d_model"]] = []
        self.resid_pre: list[Float[Tensor, "pos d_model"]] = []

    def own(self, rows: int) -> _Where:
        """Where things are in as many rows of the first reading."""
        noun, at = self.where.noun[:1].expand(rows, -1), self.where.at[:1].expand(rows)
        return _Where(noun, at, self.where.adjective)

    def hooks(self, layers: int) -> Hooks:
        """What to keep of each block."""
        at = self.where.at.repeat(2)
        does: dict[str, Callable[..., None]] = {
            "attn.hook_pattern": self._at_pattern,
            "attn.hook_v": self._at_v,
            "hook_resid_post": partial(_at, self.states, at),
        }
        if self.keep:
            does["hook_resid_pre"] = self._at_resid_pre
        return [(f"blocks.{n}.{name}", do) for n in range(layers) for name, do in does.items()]

    def _at_pattern(self, pattern: Float[Tensor, "row head query key"], hook: object) -> None:
        alpha = _alpha(pattern[: len(self.where.at)], self.where)
        rows = torch.arange(len(alpha), device=alpha.device)
        self.attention.append(alpha[rows, :, self.where.at].sum(-1))

    def _at_v(self, v: Float[Tensor, "row pos kv d_head"], hook: object) -> None:
        clean, changed = v[:, self.where.adjective].chunk(2)
        self.delta.append(changed - clean)

    def _at_resid_pre(self, resid: Float[Tensor, "row pos d_model"], hook: object) -> None:
        self.resid_pre.append(resid[0].clone())


def _at(
    kept: list[Tensor],
    at: Int[Tensor, "row"],
    resid: Float[Tensor, "row pos d_model"],
    hook: object,
) -> None:
    kept.append(resid[torch.arange(len(at), device=at.device), at].clone())


def _alpha(
    pattern: Float[Tensor, "row head query key"], where: _Where
) -> Float[Tensor, "row head query part"]:
    return pattern[..., where.adjective]


def _patched(model: Model, both: _Both) -> Float[Tensor, "layer reading d_model"]:
    """States of the noun when all heads' edges to it are exchanged, in each reading."""
    where, count = both.where, len(both.where.at)
    hooks, states = [], []
    for layer, delta in enumerate(both.delta):
        ones = torch.ones(count, both.attention[0].shape[-1], device=delta.device)
        hooks += _Edit(where, delta, ones).hooks(layer)
        hooks.append((f"blocks.{layer}.hook_resid_post", partial(_at, states, where.at)))
    model.run_with_hooks(both.rows[:count], return_type=None, fwd_hooks=hooks)
    return torch.stack(states)


class _Edit:
    """Edges of one layer, of the heads chosen in each row."""

    def __init__(
        self,
        where: _Where,
        delta: Float[Tensor, "#row part kv d_head"],
        heads: Float[Tensor, "row head"],
    ) -> None:
        self.where, self.heads = where, heads
        # Query head h reads the values of kv head h // group.
        group = heads.shape[1] // delta.shape[2]
        self.delta = repeat(delta, "row part kv d -> row part (kv group) d", group=group)

    def hooks(self, layer: int) -> Hooks:
        """Take the pattern as it passes, then add to z."""
        block = f"blocks.{layer}.attn"
        return [(f"{block}.hook_pattern", self._take), (f"{block}.hook_z", self._add)]

    def _take(self, pattern: Float[Tensor, "row head query key"], hook: object) -> None:
        self.alpha = _alpha(pattern, self.where)

    def _add(
        self, z: Float[Tensor, "row pos head d_head"], hook: object
    ) -> Float[Tensor, "row pos head d_head"]:
        weight = einsum(
            *(x.to(z) for x in (self.alpha, self.heads, self.where.noun)),
            "row head pos part, row head, row pos -> row pos head part",
        )
        axes = "row pos head part, row part head d -> row pos head d"
        return z + einsum(weight, self.delta.expand(len(z), -1, -1, -1), axes).to(z)
