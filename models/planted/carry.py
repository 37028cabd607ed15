"""Adders whose weights are written by code: which heads move the carry is known beforehand.

A method that says where a carry happens is tried on these first (the idea of Tracr: Lindner et al.
2023, section 1). Two blocks, no norms; what follows is about the pos from which A_i is read.

Block 0: a head attends to columns j < i with weights that fall tenfold from one to the next, and
moves the sum of (a_j + b_j - 9) so weighted: it is positive iff there is a carry, since a column
outweighs all below it, and nines cancel to exactly zero. Its MLP makes that a bit. Block 1: a head
attends to a_i and b_i; its MLP looks up the digit of s_i + c_i. All other heads attend and move at
random; nothing reads what they write, which is as long as what the planted head of their block
writes. In some, one head sees the column just below and another those farther down; in some, the
digit is said only once a head of a third block has copied it.
"""

from dataclasses import dataclass
from math import log

import numpy as np
import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor
from torch.linalg import vector_norm

from models.card import NativeConfig
from models.planted.writing import IGNORED, Weights, written
from models.protocol import Model
from prompts.additions import Addition, AdditionFormat

PLACES = range(2, 7)
"""Digits of an addend: with more, float32 no longer tells a carry from none over all nines."""

TOKENS = {**{str(digit): digit for digit in range(10)}, "+": 10, "=": 11, "<bos>": 12}
D_HEAD = 16
"""Its root, by which scores are divided, is a power of two: scores stay what they are."""
NEVER = -100.0
"""A score whose softmax is zero in float32."""
LOGIT = 10.0
"""Of the digit that is said; all others have 0."""
NEURONS = 41
"""Of an MLP: as many as tents over 0 to 38 have ends, 38 being twice the largest s_i + c_i."""
SUMS = 256
"""Additions over which the lengths of what heads write are averaged."""


@dataclass(frozen=True)
class PlantedCarry:
    """An exact adder, and the heads that make it one."""

    model: Model
    heads: dict[int, tuple[tuple[int, int], ...]]
    """Place of an answer digit -> (layer, head) of those that move the carry into it, jointly."""
    base: tuple[int, int]
    """(layer, head) of the one that reads the column of each digit."""
    digit: tuple[int, int] | None = None
    """(layer, head) of the one that writes the finished digit, where one does."""


@dataclass(frozen=True)
class _Plan:
    """Which heads are planted, and where in the residual stream things stand."""

    style: AdditionFormat
    n_heads: int
    carry: tuple[int, ...]
    base: int
    by_length: bool
    digit: int | None

    @property
    def n_ctx(self) -> int:
        """Tokens of an addition with its answer."""
        return len(self.style.layout) + 3 * self.style.digits - 2

    @property
    def axes(self) -> dict[str, slice]:
        """Axes of the residual stream, by what stands on them."""
        names = ("token", "pos", "below", "bit", "column", "digit", "copied", "ignored")
        copied = 10 * (self.digit is not None)
        ends = np.cumsum([len(TOKENS), self.n_ctx, 2, 2, 1, 10, copied, IGNORED]).tolist()
        return dict(zip(names, map(slice, [0, *ends[:-1]], ends), strict=True))

    def at(self, name: str) -> int:
        """The first axis of what is called `name`."""
        return self.axes[name].start

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.axes["ignored"].stop


def planted_carry(
    *,
    places: int = 3,
    shared: bool = False,
    by_length: bool = False,
    copied: bool = False,
    heads: int = 6,
    seed: int = 0,
) -> PlantedCarry:
    """An adder of numbers of `places` digits whose carry is moved by one known head of block 0.

    Where it is `shared`, by two: where only one of them says that there is a carry, the model says
    a digit that is neither the one with nor the one without. `by_length`, the first of two moves
    carries that were just made, the second those that have crossed nines. Where the digit is
    `copied`, a head of a third block writes the finished digit. Which of the `heads` heads of each
    block are planted, and what the others do, is drawn by `seed`.

    Raises ValueError for numbers or blocks of a size that cannot be planted.
    """
    two = shared or by_length
    if places not in PLACES:
        raise ValueError(f"places: {places} is not within {PLACES[0]} to {PLACES[-1]}")
    if heads < 2 + two:
        raise ValueError(f"heads: {heads} are too few, {2 + two} needed: planted and another")
    rng = torch.Generator().manual_seed(seed)
    order = torch.randperm(heads, generator=rng).tolist()
    style = AdditionFormat(
        digits=places, layout=("<bos>", "a", "+", "b", "=", "c"), vocabulary=TOKENS
    )
    base = int(torch.randint(heads, (1,), generator=rng))
    carry = tuple(sorted(order[: 1 + two]))
    plan = _Plan(style, heads, carry, base, by_length, order[-1] if copied else None)
    outer, blocks = _outer(plan), _blocks(plan, rng)
    _make_as_long(plan, outer, blocks)
    moving = tuple((0, head) for head in plan.carry)
    digit = None if plan.digit is None else (2, plan.digit)
    by_place = dict.fromkeys(range(1, places + 1), moving)
    return PlantedCarry(_model(plan, outer, blocks), by_place, (1, base), digit)


def _model(plan: _Plan, outer: Weights, blocks: list[Weights]) -> Model:
    """The model that has these weights."""
    config = NativeConfig(
        n_layers=len(blocks), n_heads=plan.n_heads, d_model=plan.d_model, d_head=D_HEAD,
        d_mlp=NEURONS, n_ctx=plan.n_ctx, d_vocab=len(TOKENS), act_fn="relu",
    )  # fmt: skip
    return written("carry", config, outer, blocks, arithmetic=plan.style)


def _outer(plan: _Plan) -> Weights:
    """Embeddings that tell every token and pos, and what says a digit."""
    W_E, W_pos = torch.zeros(len(TOKENS), plan.d_model), torch.zeros(plan.n_ctx, plan.d_model)
    W_E[:, plan.axes["token"]] = torch.eye(len(TOKENS))
    W_pos[:, plan.axes["pos"]] = torch.eye(plan.n_ctx)
    W_U = torch.zeros(plan.d_model, len(TOKENS))
    W_U[plan.axes["digit" if plan.digit is None else "copied"], :10] = LOGIT * torch.eye(10)
    return {"embed.W_E": W_E, "pos_embed.W_pos": W_pos, "unembed.W_U": W_U}


def _blocks(plan: _Plan, rng: torch.Generator) -> list[Weights]:
    """What moves the carry and makes it a bit; then what reads the column and says its digit."""
    first, second = _random_heads(plan, rng), _random_heads(plan, rng)
    near, below = _scores_just_below(plan.style), _scores_below(plan.style)
    for number, head in enumerate(plan.carry):
        # What is below the column just below a digit is what is below the digit to its right.
        seen = (near, below[[0, *range(plan.style.digits)]])[number] if plan.by_length else below
        _plant(plan, first, head, seen, {"<bos>": -0.5}, plan.at("below") + number)
    _plant(plan, second, plan.base, _scores_here(plan.style), {"<bos>": -4.5}, plan.at("column"))
    blocks = [first | _carry_mlp(plan), second | _digit_mlp(plan)]
    return blocks if plan.digit is None else [*blocks, _copying(plan, rng)]


def _copying(plan: _Plan, rng: torch.Generator) -> Weights:
    """A block one head of which attends to its own token, and copies the digit found there."""
    block, scores = _random_heads(plan, rng), _no_scores(plan.style)
    for place in range(len(scores)):
        scores[place, plan.style.read_at(place)] = 0
    _attend(plan, block, plan.digit, scores)
    block["W_V"][plan.digit, plan.axes["digit"], :10] = torch.eye(10)
    block["W_O"][plan.digit, :10, plan.axes["copied"]] = torch.eye(10)
    return block | dict(zip(("W_in", "b_in", "W_out"), _empty_mlp(plan), strict=True))


def _random_heads(plan: _Plan, rng: torch.Generator) -> Weights:
    """Heads that attend by token and pos, move all but each other's, and write what is ignored."""
    shape = (plan.n_heads, plan.d_model, D_HEAD)
    W_Q, W_K, W_V = (torch.randn(shape, generator=rng) for _ in range(3))
    read, written = plan.axes["pos"].stop, plan.axes["ignored"]
    W_Q[:, read:], W_K[:, read:], W_V[:, written] = 0, 0, 0
    W_O = torch.zeros(plan.n_heads, D_HEAD, plan.d_model)
    W_O[:, :, written] = torch.randn(plan.n_heads, D_HEAD, IGNORED, generator=rng)
    # Scores spread by about one, so that a head attends to several tokens, and unevenly.
    return {"W_Q": 0.7 * W_Q, "W_K": 0.7 * W_K, "W_V": W_V, "W_O": W_O}


def _plant(
    plan: _Plan,
    block: Weights,
    head: int,
    scores: Float[Tensor, "answer pos"],
    values: dict[str, float],
    axis: int,
) -> None:
    """Make a head attend by `scores`, and write digits (less 4.5) and other `values` to an axis."""
    _attend(plan, block, head, scores)
    W_V = block["W_V"][head]
    W_V[:10, 0] = torch.arange(10) - 4.5
    for token, value in values.items():
        W_V[TOKENS[token], 0] = value
    block["W_O"][head, 0, axis] = 1


def _attend(plan: _Plan, block: Weights, head: int, scores: Float[Tensor, "answer pos"]) -> None:
    """Make a head attend by `scores` where each place is read, and move nothing yet."""
    for which in "QKVO":
        block[f"W_{which}"][head] = 0
    pos = plan.axes["pos"]
    for place in range(len(scores)):
        block["W_Q"][head, pos.start + plan.style.read_at(place), place] = D_HEAD**0.5
    block["W_K"][head, pos, : len(scores)] = scores.T


def _scores_below(style: AdditionFormat) -> Float[Tensor, "answer pos"]:
    """Attention to the columns below each place, falling tenfold; <bos> weighs as the units do.

    With -.5 at <bos>, what is moved is positive iff there is a carry, and never zero.
    """
    scores = _no_scores(style)
    for place in range(style.digits + 1):
        scores[place, 0] = -place * log(10)
        for below in range(place):
            scores[place, _operands(style, below)] = (below - place) * log(10)
    return scores


def _scores_just_below(style: AdditionFormat) -> Float[Tensor, "answer pos"]:
    """Attention to both digits of the column just below each place; of the units, to <bos>."""
    scores = _no_scores(style)
    scores[0, 0] = 0
    for place in range(1, style.digits + 1):
        scores[place, _operands(style, place - 1)] = 0
    return scores


def _scores_here(style: AdditionFormat) -> Float[Tensor, "answer pos"]:
    """Attention to both digits of each place's column; to <bos> above the addends."""
    scores = _no_scores(style)
    for place in range(style.digits):
        scores[place, _operands(style, place)] = 0
    scores[style.digits, 0] = 0
    return scores


def _no_scores(style: AdditionFormat) -> Float[Tensor, "answer pos"]:
    return torch.full((style.digits + 1, len(style.layout) + 3 * style.digits - 2), NEVER)


def _operands(style: AdditionFormat, place: int) -> list[int]:
    """The pos of a column's two digits."""
    return [style.operand_at("a", place), style.operand_at("b", place)]


def _carry_mlp(plan: _Plan) -> Weights:
    """A bit for each head that moves the carry: 1 where what it wrote is positive, else 0.

    By length they make one: the column just below decides, and where it is nine, those below it.
    """
    W_in, b_in, W_out = _empty_mlp(plan)
    n = plan.style.digits - plan.by_length
    units = 10.0**-n / (2 * sum(10.0**-k for k in range(1, n + 1)) + 10.0**-n)
    for number in range(1 if plan.by_length else len(plan.carry)):
        on, over = 2 * number, 2 * number + 1
        # The least that a carry writes is half the weight of the units: here it becomes 2.
        W_in[plan.at("below") + number, [on, over]] = 40 / units if plan.by_length else 4 / units
        if plan.by_length:
            W_in[plan.at("below") + 1, [on, over]] = 4 / units
        b_in[over] = -1
        W_out[[on, over], plan.at("bit") + number] = torch.tensor([1.0, -1.0])
    return {"W_in": W_in, "b_in": b_in, "W_out": W_out}


def _digit_mlp(plan: _Plan) -> Weights:
    """The digit of m / 2 for m = 2 s_i + 2 c_i, by a tent over every m.

    An odd m is a carry that only one of two heads claims: the digit five above is neither's.
    """
    W_in, b_in, W_out = _empty_mlp(plan)
    # What stands for the column is (s - 9) / 2, the mean of both digits less 4.5.
    W_in[plan.at("column")] = 4
    W_in[plan.axes["bit"]] = 2 if plan.by_length else 2 / len(plan.carry)
    b_in[:] = 19 - torch.arange(NEURONS)
    for m in range(NEURONS - 2):
        digit = (m // 2 + 5 * (m % 2)) % 10
        W_out[m : m + 3, plan.at("digit") + digit] += torch.tensor([1.0, -2.0, 1.0])
    return {"W_in": W_in, "b_in": b_in, "W_out": W_out}


def _empty_mlp(plan: _Plan) -> tuple[Tensor, Tensor, Tensor]:
    """W_in, b_in and W_out of zeros."""
    W_in, W_out = torch.zeros(plan.d_model, NEURONS), torch.zeros(NEURONS, plan.d_model)
    return W_in, torch.zeros(NEURONS), W_out


@torch.no_grad()
def _make_as_long(plan: _Plan, outer: Weights, blocks: list[Weights]) -> None:
    """Scale what random heads write to the mean length of what is planted in their block."""
    model, style = _model(plan, outer, blocks), plan.style
    sums = Addition(style.digits, SUMS, seed=0).sums
    tokens = torch.from_numpy(np.ascontiguousarray(style.write(sums).tokens))
    z = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("hook_z"))[1]
    reads = [style.read_at(place) for place in range(style.digits + 1)]
    every = (plan.carry, (plan.base,), (plan.digit,))[: len(blocks)]
    for layer, planted in enumerate(every):
        W_O = blocks[layer]["W_O"]
        written = einsum(
            z[f"blocks.{layer}.attn.hook_z"][:, reads],
            W_O,
            "batch read head d_head, head d_head d_model -> batch read head d_model",
        )
        length = vector_norm(written, dim=-1).mean((0, 1))
        scale = length[planted[0]] / length
        scale[list(planted)] = 1
        W_O *= scale[:, None, None]
