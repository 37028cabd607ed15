"""A hidden state as a sum of few token vectors, found one after another (SCIENCE 4).

As first published: find the most likely token, subtract its embedding, find the next. With atoms of
unit length and the right coefficients this is matching pursuit (Mallat & Zhang 1993), with all
coefficients fitted anew at every step orthogonal matching pursuit (Pati et al. 1993), and with none
of them below zero its non-negative form (Bruckstein et al. 2008).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from models import Model
from models.readout import unembedding

NUMBERS = 2**24
"""Products of states and tokens held at a time: 64 MB in float32."""
MOST = 5
"""Tokens that a state is taken apart into."""
LEAST_FALL = 1e-6
"""A step counts if the residual's length falls by more than this share."""

ROUNDING = 1e-6
"""A residual shorter than this share of its state is none."""
DEPENDENT = 1e-12
"""Eigenvalues of a Gram matrix below this share of the largest are zero."""

How = Literal["published", "projection", "orthogonal", "non-negative"]
"""Coefficient 1; projection; all fitted anew; all fitted anew and none below zero."""
Norm = Literal["none", "unit", "final", "centred"]


@dataclass(frozen=True)
class Atoms:
    """Vectors of tokens, never copied: `rows @ through`, divided by `lengths`."""

    rows: Float[Tensor, "token d"]
    lengths: Float[Tensor, "token"]
    through: Float[Tensor, "d d"] | None = None

    @classmethod
    def unit(cls, rows: Tensor, through: Tensor | None = None) -> "Atoms":
        """Atoms of length 1; a token without a vector stays without one."""
        raw = cls(rows, torch.ones(len(rows), device=rows.device), through)
        lengths = torch.cat([part.norm(dim=-1) for part in raw.parts()])
        return replace(raw, lengths=torch.where(lengths > 0, lengths, torch.inf))

    def raw(self) -> "Atoms":
        """The same atoms with the lengths that they have, as first published."""
        return replace(self, lengths=torch.ones_like(self.lengths))

    def parts(self) -> Iterator[Float[Tensor, "some d"]]:
        """All atoms, some at a time."""
        for rows, lengths in zip(_cut(self.rows), _cut(self.lengths), strict=True):
            some = rows.float() if self.through is None else rows.float() @ self.through
            yield some / lengths[:, None]

    def __getitem__(self, ids: Int[Tensor, "*n"]) -> Float[Tensor, "*n d"]:
        """The atoms of tokens, in float64."""
        rows = self.rows[ids].double()
        rows = rows if self.through is None else rows @ self.through.double()
        return rows / self.lengths[ids].double()[..., None]

    def best(
        self, states: Float[Tensor, "n d"], *, signed: bool
    ) -> tuple[Float[Tensor, "n"], Int[Tensor, "n"]]:
        """The largest product of each state with an atom, and whose it is.

        With `signed` an atom counts that points the opposite way. The vocabulary is read in parts.
        """
        states = states.float()
        states = states if self.through is None else states @ self.through.mT
        most = states.new_full((len(states),), -torch.inf)
        token = torch.zeros(len(states), dtype=torch.long, device=states.device)
        start = 0
        for part in _cut(self.rows, max(1, NUMBERS // max(1, len(states)))):
            here = states @ part.float().mT / self.lengths[start : start + len(part)]
            value, at = (here.abs() if signed else here).max(-1)
            token = torch.where(value > most, start + at, token)
            most, start = torch.maximum(value, most), start + len(part)
        return most, token


def _cut(rows: Tensor, size: int = 2**14) -> tuple[Tensor, ...]:
    return rows.split(size)


def transported(model: Model, jacobian: Float[Tensor, "d d"]) -> Atoms:
    """Readout directions taken back to the layer of a mean Jacobian: gain * U, then J."""
    own = unembedding(model)
    J = own.norm.centred(jacobian.to(own.W_U.device).float().mT).mT
    return Atoms.unit(own.W_U.mT, own.norm.gain.float()[:, None] * J)


def mixed(atoms: Atoms, seed: int) -> Atoms:
    """Random vectors with exactly the mean and covariance of these atoms, then of length 1.

    With atoms = mean + W S V (singular values S), W is drawn anew: orthonormal columns of mean
    zero. What is left is the cloud of the atoms without the atoms.
    """
    count = len(atoms.lengths)
    mean = sum(part.sum(0) for part in atoms.parts()) / count
    apart = (part - mean for part in atoms.parts())
    powers, axes = torch.linalg.eigh(sum((part.mT @ part).double() for part in apart))
    kept = (powers > 1e-7 * powers.max()).nonzero()[:, 0][-(count - 1) :]
    spread = (axes[:, kept] * powers[kept].sqrt()).mT
    rng = torch.Generator().manual_seed(seed)
    drawn = torch.randn(count, len(kept), generator=rng).to(mean.device)
    drawn -= drawn.mean(0)
    factor = torch.linalg.cholesky((drawn.mT @ drawn).double())
    turn = torch.linalg.solve_triangular(factor.mT, spread, upper=True).float()
    if len(kept) < len(axes):
        return Atoms.unit((drawn @ turn).add_(mean))
    for part in _cut(drawn):  # in place: there are as many numbers as in the vocabulary
        part.copy_((part @ turn).add_(mean))
    return Atoms.unit(drawn)


@dataclass(frozen=True)
class Decomposition:
    """States as sums of atoms, and what is left of them."""

    tokens: Int[Tensor, "n step"]
    """In the order in which they were found; -1 where the pursuit had stopped."""
    coefficients: Float[Tensor, "n step"]
    """Of the atoms, after the last step."""
    lengths: Float[Tensor, "n step+1"]
    """Of the residual: before the first step, and after each."""
    aside: Float[Tensor, "n d"]
    """What was set aside before, and goes on being fitted."""
    residual: Float[Tensor, "n d"]

    @property
    def explained(self) -> Float[Tensor, "n step"]:
        """Share of the squared length explained by the first k tokens; NaN of a zero vector."""
        return 1 - (self.lengths[:, 1:] / self.lengths[:, :1]) ** 2

    @property
    def is_single(self) -> Bool[Tensor, "n"]:
        """Whether all that was found is one and the same token."""
        same = (self.tokens == self.tokens[:, :1]) | (self.tokens < 0)
        return same.all(-1)

    def rebuilt(self, atoms: Atoms) -> Float[Tensor, "n d"]:
        """Reconstruction plus residual: the states again."""
        found = atoms[self.tokens.clamp(min=0)] * self.coefficients[..., None]
        return found.sum(1) + self.aside + self.residual


@torch.inference_mode()
def pursue(
    states: Float[Tensor, "n d"],
    atoms: Atoms,
    how: How = "orthogonal",
    *,
    steps: int = MOST,
    aside: Float[Tensor, "n given d"] | None = None,
) -> Decomposition:
    """States as sums of at most `steps` atoms; each stops where its residual no longer falls.

    Vectors set `aside` explain what they can before the first step; they are fitted anew with every
    token, so that no token is found for what they tell. Raises ValueError where `how` fits nothing
    anew.
    """
    if aside is not None and how != "orthogonal":
        raise ValueError(f"only an orthogonal pursuit sets vectors aside, not {how!r}")
    states, atoms = states.double(), atoms.raw() if how == "published" else atoms
    given = states[:, None][:, :0] if aside is None else aside.double()
    weights = _least_squares(given, states)
    tokens = torch.zeros(len(states), 0, dtype=torch.long, device=states.device)
    left = states - _sum(given, weights)
    lengths, active = [_length(left, states)], torch.ones_like(states[:, 0], dtype=torch.bool)
    for _ in range(steps):
        token = atoms.best(left, signed=how in ("projection", "orthogonal"))[1]
        tried = torch.cat([tokens, token[:, None]], dim=1)
        vectors = torch.cat([given, atoms[tried.clamp(min=0)]], dim=1)
        fitted = _fitted(how, vectors, states, left, weights)
        after = states - _sum(vectors, fitted)
        active = active & (_length(after, states) < (1 - LEAST_FALL) * lengths[-1])
        go = active[:, None]
        tokens = torch.where(go, tried, pad(tokens, (0, 1), value=-1))
        weights, left = torch.where(go, fitted, pad(weights, (0, 1))), torch.where(go, after, left)
        lengths.append(_length(left, states))
    kept = given.shape[1]
    parts = _sum(given, weights[:, :kept])
    return Decomposition(tokens, weights[:, kept:], torch.stack(lengths, 1), parts, left)


def _length(left: Float[Tensor, "n d"], states: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
    """Of residuals; 0 where nothing is left but rounding."""
    length = left.norm(dim=-1)
    return torch.where(length > ROUNDING * states.norm(dim=-1), length, 0.0)


def _sum(vectors: Float[Tensor, "n k d"], weights: Float[Tensor, "n k"]) -> Float[Tensor, "n d"]:
    return torch.einsum("nkd,nk->nd", vectors, weights)


def _fitted(
    how: How,
    vectors: Float[Tensor, "n k d"],
    states: Float[Tensor, "n d"],
    left: Float[Tensor, "n d"],
    weights: Float[Tensor, "n k-1"],
) -> Float[Tensor, "n k"]:
    """Coefficients with one vector more; only the last is new, or all are fitted anew."""
    if how == "orthogonal":
        return _least_squares(vectors, states)
    if how == "non-negative":
        return _none_below_zero(vectors, states)
    last = (left * vectors[:, -1]).sum(-1)
    return torch.cat([weights, (torch.ones_like(last) if how == "published" else last)[:, None]], 1)


def _least_squares(
    vectors: Float[Tensor, "n k d"], states: Float[Tensor, "n d"]
) -> Float[Tensor, "n k"]:
    """The coefficients that leave least; the shortest ones where vectors depend on each other."""
    gram = torch.einsum("nkd,njd->nkj", vectors, vectors)
    told = torch.einsum("nkd,nd->nk", vectors, states)
    if not gram.shape[-1]:
        return told
    inverse = torch.linalg.pinv(gram, rtol=DEPENDENT, hermitian=True)
    return torch.einsum("nkj,nj->nk", inverse, told)


def _none_below_zero(
    vectors: Float[Tensor, "n k d"], states: Float[Tensor, "n d"]
) -> Float[Tensor, "n k"]:
    """The same with none below zero: the best of all subsets, of which there are 2^k - 1."""
    best = torch.zeros_like(vectors[..., 0])
    least = states.norm(dim=-1)
    for kept in product((0.0, 1.0), repeat=vectors.shape[1]):
        some = vectors * torch.tensor(kept, dtype=vectors.dtype, device=vectors.device)[:, None]
        weights = _least_squares(some, states)
        length = (states - _sum(some, weights)).norm(dim=-1)
        better = (length < least) & (weights >= 0).all(-1)
        best = torch.where(better[:, None], weights, best)
        least = torch.where(better, length, least)
    return best
