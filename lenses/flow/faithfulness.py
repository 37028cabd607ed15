"""What a prediction keeps when only some pieces of the model are left (SCIENCE 8).

A piece is what a flow diagram draws as one link: what a token takes from another in the attention
of a layer, all heads together, or what an MLP adds at a token. Pieces are kept best first until
they hold a share of the *mass* of all: what a token gathers in one layer has mass 1, shared out
by its attention (mean over heads), and what an MLP adds has mass 1. No rule of drawing has a say
in the mass, so that none is rewarded for keeping more (2601.03089). The residual stream stays.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import einsum, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from models import Model
from models.passes import Hooks, reading

ROWS = 16
"""Choices of pieces in one forward pass: fixed, so that no number depends on how work is cut."""


@dataclass(frozen=True)
class Pieces:
    """A value for each piece; those that no token can see (source after query) are never used."""

    attention: Float[Tensor, "*row layer query source"] | Bool[Tensor, "*row layer query source"]
    mlp: Float[Tensor, "*row mlps pos"] | Bool[Tensor, "*row mlps pos"]
    """One a layer; none in a model that has attention only."""

    def flat(self) -> Tensor:
        """All values in one axis, attention first."""
        return torch.cat([self.attention.flatten(-3), self.mlp.flatten(-2)], -1)

    def unflat(self, values: Tensor) -> "Pieces":
        """Values [*row piece] in the shape of these pieces."""
        edges, nodes = self.attention.shape[-3:], self.mlp.shape[-2:]
        first, rest = values.split([edges.numel(), nodes.numel()], -1)
        return Pieces(first.unflatten(-1, edges), rest.reshape(*values.shape[:-1], *nodes))


@dataclass(frozen=True)
class Clean:
    """A text as it is: the token that the model expects after it, and the mass of its pieces."""

    tokens: Int[Tensor, "pos"]
    log_p: Float[Tensor, "vocab"]
    mass: Pieces
    gathered: Float[Tensor, "pos layer kv d_head"]
    """Values that attention mixes."""
    added: Float[Tensor, "pos mlps d_model"]
    """What MLPs add."""

    @property
    def token(self) -> int:
        """The token that is explained: the likeliest."""
        return int(self.log_p.argmax())


@torch.inference_mode()
def read_clean(model: Model, tokens: Int[Tensor, "pos"]) -> Clean:
    """One text in one pass; its prediction is read at the last token."""
    layers = range(model.cfg.n_layers)
    has_mlp = "blocks.0.hook_mlp_out" in model.hook_dict
    names = {
        kind: [f"blocks.{layer}.{kind}" for layer in layers]
        for kind in ("attn.hook_pattern", "attn.hook_v", *(("hook_mlp_out",) if has_mlp else ()))
    }
    with reading(model, _last(tokens, 1)):
        logits, cache = model.run_with_cache(
            tokens[None], names_filter=[at for hooks in names.values() for at in hooks]
        )
    kept = {kind: torch.stack([cache[at][0] for at in hooks]) for kind, hooks in names.items()}
    pattern, v = kept["attn.hook_pattern"].float(), kept["attn.hook_v"]
    mlp = kept.get("hook_mlp_out", v.new_zeros(0, len(tokens), model.cfg.d_model))
    return Clean(
        tokens,
        logits[0, 0].float().log_softmax(-1),
        Pieces(pattern.mean(1), torch.ones_like(mlp[..., 0], dtype=torch.float32)),
        v.transpose(0, 1),
        mlp.transpose(0, 1),
    )


@dataclass(frozen=True)
class Absent:
    """What stands in for a piece that is ablated: that of the first token, that of any other.

    The first token is apart because models use it as a sink: its states are like no other's.
    """

    value: Float[Tensor, "place layer kv d_head"]
    mlp: Float[Tensor, "place mlps d_model"]

    @classmethod
    def zero(cls, clean: Clean) -> "Absent":
        """Nothing at all."""
        return cls(*(torch.zeros_like(x[:1]).repeat(2, *[1] * (x.dim() - 1))
                     for x in (clean.gathered, clean.added)))  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What is left of a prediction, one row a choice of pieces."""

    log_probability: Float[np.ndarray, "row"]
    """Of the token that is explained, in nats."""
    kl: Float[np.ndarray, "row"]
    """Of the model's own distribution from the one that is left, in nats."""


@torch.inference_mode()
def with_only(model: Model, clean: Clean, kept: Pieces, absent: Absent) -> Outcome:
    """The prediction when of each row's pieces those that are not kept are ablated, all at once."""
    parts = [
        _with_only(model, clean, Pieces(edges, nodes), absent)
        for edges, nodes in zip(kept.attention.split(ROWS), kept.mlp.split(ROWS), strict=True)
    ]
    log_p = torch.cat(parts).double()
    kl = einsum(clean.log_p.exp().double(), clean.log_p.double() - log_p, "token, row token -> row")
    return Outcome(log_p[:, clean.token].cpu().numpy(), kl.clamp(min=0).cpu().numpy())


def _with_only(
    model: Model, clean: Clean, kept: Pieces, absent: Absent
) -> Float[Tensor, "row vocab"]:
    rows, edit = len(kept.attention), _Ablation(kept, absent)
    with reading(model, _last(clean.tokens, rows)):
        logits = model.run_with_hooks(
            clean.tokens.expand(rows, -1), fwd_hooks=edit.hooks(len(clean.mass.attention))
        )
    return logits[:, 0].float().log_softmax(-1)


class _Ablation:
    """What happens in each block to the pieces that are not kept.

    No dataclass: TransformerLens writes out each hook's owner, which would print every number.
    """

    def __init__(self, kept: Pieces, absent: Absent) -> None:
        self.kept, self.absent = kept, absent

    def hooks(self, layers: int) -> Hooks:
        """Attention is cut in the pattern, which is not renormalised; what stands in joins z."""
        at = {"attn.hook_pattern": self._cut, "attn.hook_z": self._join}
        at |= {"hook_mlp_out": self._replace} if self.kept.mlp.shape[1] else {}
        return [
            (f"blocks.{layer}.{name}", _at_layer(do, layer))
            for layer in range(layers)
            for name, do in at.items()
        ]

    def _cut(self, layer: int, pattern: Float[Tensor, "row head query key"]) -> Tensor:
        left = pattern * self.kept.attention[:, layer, None]
        lost = pattern - left
        self.lost = torch.stack([lost[..., 0], lost[..., 1:].sum(-1)], -1)
        return left

    def _join(self, layer: int, z: Float[Tensor, "row pos head d_head"]) -> Tensor:
        value = self.absent.value[:, layer]
        value = repeat(value, "place kv d -> place (kv group) d", group=z.shape[2] // len(value[0]))
        axes = "row head pos place, place head d -> row pos head d"
        return z + einsum(self.lost.to(z), value.to(z), axes)

    def _replace(self, layer: int, out: Float[Tensor, "row pos d_model"]) -> Tensor:
        place = (torch.arange(out.shape[1], device=out.device) > 0).long()
        return torch.where(
            self.kept.mlp[:, layer, :, None], out, self.absent.mlp[place, layer].to(out)
        )


def _at_layer(do, layer: int):
    return lambda act, hook: do(layer, act)


def gradient_scores(model: Model, clean: Clean) -> Pieces:
    """To first order, what the explained token loses in log-probability without each piece.

    <gradient, what the piece adds>: of attention it is the sum over heads of pattern x gradient of
    the pattern (attribution patching of edges to zero: Nanda 2023; Syed et al. 2023).
    """
    kept: dict[str, list[Tensor]] = {"attn.hook_pattern": [], "hook_mlp_out": []}
    is_used = [kind for kind in kept if f"blocks.0.{kind}" in model.hook_dict]

    def keep(act: Tensor, hook: object, kind: str) -> Tensor:
        act = act if act.requires_grad else act.requires_grad_(True)
        kept[kind].append(act)
        return act

    hooks: Hooks = [
        (f"blocks.{layer}.{kind}", lambda act, hook, kind=kind: keep(act, hook, kind))
        for layer in range(model.cfg.n_layers)
        for kind in is_used
    ]
    with torch.enable_grad(), reading(model, _last(clean.tokens, 1)):
        start = ("hook_embed", lambda embed, hook: embed.detach().clone().requires_grad_(True))
        logits = model.run_with_hooks(clean.tokens[None], fwd_hooks=[start, *hooks])
        nats = logits[0, 0].float().log_softmax(-1)[clean.token]
        every = [act for acts in kept.values() for act in acts]
        grads = torch.autograd.grad(nats, every, materialize_grads=True, allow_unused=True)
    products = [(act * grad)[0].float().detach() for act, grad in zip(every, grads, strict=True)]
    edges = torch.stack(products[: model.cfg.n_layers]).sum(1)
    nodes = [product.sum(-1) for product in products[model.cfg.n_layers :]]
    return Pieces(edges, torch.stack(nodes) if nodes else clean.mass.mlp)


def best_first(
    scores: Float[Tensor, "order piece"],
    mass: Float[Tensor, "piece"],
    shares: Sequence[float],
    rng: np.random.Generator,
) -> Bool[Tensor, "order share piece"]:
    """Which pieces are kept when each order keeps its best up to a share of the mass.

    Nested, and never above the share: short of it by less than one piece. Equal scores are put in
    an order by chance, the same for all.
    """
    shuffled = torch.from_numpy(rng.permutation(len(mass))).to(mass.device)
    order = shuffled[scores[:, shuffled].argsort(dim=-1, descending=True, stable=True)]
    heaped = mass[order].double().cumsum(-1)
    most = torch.tensor(shares, dtype=torch.float64, device=mass.device) * mass.double().sum()
    fits = heaped[:, None] <= most[:, None] * (1 + 1e-9)
    kept = torch.zeros_like(fits)
    return kept.scatter_(-1, order[:, None].expand_as(fits), fits)


def area(
    shares: Float[np.ndarray, "share"], values: Float[np.ndarray, "*cell share"]
) -> Float[np.ndarray, "*cell"]:
    """The area under a curve over shares from 0 to 1, by the trapezoidal rule."""
    return np.trapezoid(values, shares, axis=-1)


def _last(tokens: Int[Tensor, "pos"], rows: int) -> Int[Tensor, "row 1"]:
    return torch.full((rows, 1), len(tokens) - 1, device=tokens.device)
