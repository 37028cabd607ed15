"""What a head selects by: the key's token, its place, or what else the text says (SCIENCE 2).

Two experiments on a model's attention. In the first, the same few tokens stand at the same few
slots of a text in every arrangement of a set of Latin squares, and the variance of the scores that
one query gives to the slots is parted into what follows the token, the slot, both, and neither. In
the second, heads are scored by how much attention they give to tokens that stand in a known
relation to the one that looks.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from models import Model

COMPONENTS = ("content", "position", "both", "context")
"""What the scores of a row vary with: which token a key is; where it stands (its pos, and so its
offset from the query, which does not move); the one only together with the other; and the rest of
the text, which in the first layer cannot matter."""

KINDS = ("previous", "duplicate", "induction", "sink")
"""Keys in a known relation to a query: the token before it; earlier occurrences of the same token;
tokens that follow those (Olsson et al. 2022, "In-context Learning and Induction Heads"); the first
token of the text."""

ROUNDING = 1e-9
"""Variance below this share of the mean square is rounding in float32."""


def latin_squares(order: int) -> Int[np.ndarray, "sequence slot"]:
    """Which of `order` tokens stands at each slot of each of order * (order - 1) sequences.

    A complete set of mutually orthogonal Latin squares (Bose 1938, Sankhya 3): in each square
    every token stands at every slot once, and any two sequences of two squares agree in one slot.
    Raises ValueError unless `order` is a prime of at least 5, for which the set is this simple.
    """
    if order < 5 or any(order % factor == 0 for factor in range(2, order)):
        raise ValueError(f"{order} is not a prime of at least 5")
    square, row, slot = np.ogrid[1:order, :order, :order]
    return ((row + square * slot) % order).reshape(-1, order)


def score_variances(
    scores: Float[Tensor, "sequence *cell slot"],
) -> Float[Tensor, "component *cell"]:
    """Variance of a row's scores over its slots, parted by COMPONENTS; their sum is the whole.

    `scores` are those of one query in the sequences of `latin_squares`. Whatever is added to a
    whole row changes nothing, as it changes nothing in attention. Main effects and interaction
    are sums of products of different squares, in which the noise of the context has mean zero (so
    that they may fall below zero by chance); the context is what they leave.
    """
    order, cells = scores.shape[-1], scores.shape[1:-1]
    rows = rearrange(scores.double().flatten(1, -2), "sequence cell slot -> sequence slot cell")
    whole = rows.var(dim=1).mean(0)
    lines = _line_means(rows.unflatten(0, (order - 1, order)))
    content, position = (_shared(lines[:, i], order - 1) / (order - 1) for i in (0, -1))
    # Within a square, its own lines are the sequences, whose level is of no meaning.
    tilted = lines[:, 1:-1] * (1 - torch.eye(order - 1, device=lines.device))[:, :, None, None]
    both = _shared(tilted, order - 2).sum(0) * (order - 2) / (order - 1) ** 2
    parts = torch.stack([content, position, both, whole - content - position - both])
    return parts.unflatten(-1, cells)


def _line_means(
    rows: Float[Tensor, "square row slot cell"],
) -> Float[Tensor, "square family line cell"]:
    """Means of each square's scores over each token, each other square's sequences, each slot.

    Tokens x slots are a plane of prime order, and these are its families of parallel lines: sums
    of squares about the mean of the plane are sums over families. (Bose 1938.)
    """
    order = rows.shape[2]
    device = rows.device
    square, slot = torch.arange(1, order, device=device), torch.arange(order, device=device)
    line = slot[:, None]
    row = (slot[:, None] - square[:, None, None] * slot) % order
    plane = rows[square[:, None, None] - 1, row, slot]  # square token slot cell
    plane = plane - plane.mean((1, 2), keepdim=True)
    token = (line + slot[:, None, None] * slot) % order  # family line slot
    tilted = plane[:, token, slot].mean(3)
    return torch.cat([tilted, plane.mean(1)[:, None]], dim=1)


def _shared(
    means: Float[Tensor, "square *family line cell"], squares: int
) -> Float[Tensor, "*family cell"]:
    """Sum over lines of the mean product of two different squares, of which so many count."""
    products = means.sum(0) ** 2 - (means**2).sum(0)
    return products.sum(-2) / (squares * (squares - 1))


def as_shares(parts: Float[Tensor, "component *cell"], level: Float[Tensor, "*cell"]):
    """Variances over their sum; NaN where that is rounding beside the mean square `level`."""
    whole = parts.sum(0)
    return torch.where(whole > ROUNDING * level, parts / whole, torch.nan)


@torch.inference_mode()
def score_shares(
    model: Model,
    text: Int[Tensor, "pos"],
    tokens: Int[Tensor, "order"],
    slots: Int[Tensor, "order"],
    queries: Int[Tensor, "query"],
) -> Float[Tensor, "component layer head"]:
    """Shares of the variance of each head's attention scores, when a text's slots are refilled.

    The tokens take turns at the slots as in `latin_squares`; everything else stays as it is, the
    queries included, which stand after all slots; variances are summed over queries. A shuffled
    order of `slots` keeps the same tokens from standing beside each other.
    """
    design = torch.from_numpy(latin_squares(len(tokens))).to(tokens.device)
    texts = text.repeat(len(design), 1)
    texts[:, slots] = tokens[design]
    found: list[Tensor] = []
    model.run_with_hooks(
        texts,
        stop_at_layer=model.cfg.n_layers,
        fwd_hooks=[
            (f"blocks.{layer}.attn.hook_pattern", partial(_take, found, queries, slots))
            for layer in range(model.cfg.n_layers)
        ],
    )
    scores = torch.stack(found, dim=1)
    level = scores.double().pow(2).mean((0, -1)).sum(-1)
    return as_shares(score_variances(scores).sum(-1), level)


def _take(
    found: list[Tensor],
    queries: Int[Tensor, "query"],
    slots: Int[Tensor, "slot"],
    pattern: Float[Tensor, "batch head query_pos key"],
    hook: object,
) -> None:
    """Scores up to a constant of each row, whatever a model adds to them or caps them at.

    A key 87 nats below a row's highest is given a zero in float32, and counts as no lower.
    """
    chosen = pattern[:, :, queries[:, None], slots].float()
    found.append(chosen.clamp(min=torch.finfo(torch.float32).tiny).log())


def relations(tokens: Int[Tensor, "batch pos"]) -> Bool[Tensor, "kind batch pos key"]:
    """Which keys stand to each query in each of the relations KINDS."""
    pos = torch.arange(tokens.shape[1], device=tokens.device)
    same = tokens[:, :, None] == tokens[:, None, :]
    after = torch.zeros_like(same)
    after[:, :, 1:] = same[:, :, :-1]
    before, seen = pos < pos[:, None], pos <= pos[:, None]
    previous = (pos == pos[:, None] - 1).expand_as(same)
    # What follows the query itself is not there yet, so of `after` all that is seen is earlier.
    first = (pos == 0).expand_as(same)
    return torch.stack([previous, same & before, after & seen, first & seen])


@torch.inference_mode()
def attention_by_kind(
    model: Model, tokens: Int[Tensor, "batch pos"], first: int
) -> tuple[Float[Tensor, "batch kind layer head"], Float[Tensor, "batch kind"]]:
    """Attention given to the keys of each of KINDS, and what even attention would give them.

    Means over the queries from pos `first` on that have such a key; NaN where none has.
    """
    keys = relations(tokens)
    has = keys.any(-1)
    has[..., :first] = False
    weight = has / has.sum(-1, keepdim=True)  # 0 / 0 is NaN: no such query
    wanted = keys * weight[..., None]
    found: list[Tensor] = []

    def read(pattern: Float[Tensor, "batch head query key"], hook: object) -> None:
        part = einsum(
            pattern.float(), wanted, "batch head query key, kind batch query key -> batch kind head"
        )
        found.append(part)

    hooks: list[tuple[str | Callable[[str], bool], Callable]] = [
        (f"blocks.{layer}.attn.hook_pattern", read) for layer in range(model.cfg.n_layers)
    ]
    model.run_with_hooks(tokens, stop_at_layer=model.cfg.n_layers, fwd_hooks=hooks)
    even = wanted.sum(-1) / torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
    return torch.stack(found, dim=2), even.sum(-1).mT.contiguous()
